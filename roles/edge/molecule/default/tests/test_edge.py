"""The route as the proxy's double reads it, and the slot that may not serve."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from tests.molecule.machine import Machine

DYNAMIC = "/opt/icupa/deployments/agents-service/traefik/dynamic"


@pytest.fixture
def machine(host: Host) -> Machine:
    return Machine.of(host)


def test_the_route_names_the_active_slot(machine: Machine) -> None:
    assert "url: http://agents-blue:8080" in machine.shell(f"cat {DYNAMIC}/active.yml")
    assert machine.shell(f"stat -c '%a %u' {DYNAMIC}/active.yml") == "444 0"


def test_nothing_was_staged_in_the_watched_directory(machine: Machine) -> None:
    assert machine.shell(f"ls -A {DYNAMIC}").split() == ["active.yml", "edge.yml", "maintenance.yml"]


def test_the_proxy_sees_the_route_through_its_mount(machine: Machine) -> None:
    seen = machine.shell("docker exec agents-service-traefik-1 cat /etc/traefik/dynamic/active.yml")
    assert "agents-blue" in seen


def test_the_idle_slot_does_not_run(machine: Machine) -> None:
    names = machine.shell("docker ps --format '{{.Names}}'").split()
    assert "agents-service-agents-blue-1" in names
    assert "agents-service-agents-green-1" not in names
