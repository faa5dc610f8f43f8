"""After a move only the release's slot runs, and the proxy's route names it."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from tests.molecule.machine import Machine

ROUTE = "/opt/icupa/deployments/agents-service/traefik/dynamic/active.yml"


@pytest.fixture
def machine(host: Host) -> Machine:
    return Machine.of(host)


def test_only_the_release_runs_and_the_other_container_is_gone(machine: Machine) -> None:
    names = machine.shell("docker ps --all --format '{{.Names}}'").split()
    assert "agents-service-agents-green-1" in names
    assert [name for name in names if name.endswith("blue-1")] == []


def test_the_route_names_the_release_alone(machine: Machine) -> None:
    route = machine.shell(f"cat {ROUTE}")
    assert "url: http://agents-green:8080" in route
    assert "blue" not in route


def test_a_restart_of_the_project_brings_up_the_same_slot(machine: Machine) -> None:
    environment = machine.shell("cat /opt/icupa/deployments/agents-service/.env")
    assert "COMPOSE_PROFILES=green\n" in f"{environment}\n"


def test_a_run_of_the_whole_project_makes_nothing_of_it_anew(machine: Machine) -> None:
    shown = "docker inspect --format '{{.Id}} {{.State.StartedAt}}' agents-service-agents-green-1"
    before = machine.shell(shown)
    machine.shell("systemctl reload agents-service.service")
    assert machine.shell(shown) == before
