"""The project as it runs: files, unit, slots, restarts of containers and of the machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.molecule.machine import Machine
from tests.waiting import eventually

ROOT = "/opt/icupa/deployments/agents-service"
UNIT = "agents-service.service"
SERVICES = {"agents-blue", "traefik", "oauth2-proxy", "otel-collector", "maintenance"}


@pytest.fixture
def machine(host: Host) -> Machine:
    return Machine.of(host)


def containers(machine: Machine) -> dict[str, dict[str, Any]]:
    """Service to what the engine knows of its container."""
    ids = machine.shell("docker ps --all --quiet --filter label=com.docker.compose.project=agents-service")
    found = json.loads(machine.shell(f"docker inspect {' '.join(ids.split())}"))
    return {item["Config"]["Labels"]["com.docker.compose.service"]: item for item in found}


def running(machine: Machine) -> set[str]:
    return {name for name, item in containers(machine).items() if item["State"]["Status"] == "running"}


@pytest.mark.parametrize("name", [".env", "agents-service.env", "oauth2-proxy.env"])
def test_env_files_are_for_the_user_only(machine: Machine, name: str) -> None:
    assert machine.shell(f"stat -c '%a %U %G' {ROOT}/{name}") == "600 icupa icupa"


def test_the_tree_is_closed_to_others(machine: Machine) -> None:
    assert machine.shell(f"stat -c '%a %U' {ROOT}") == "750 icupa"
    assert machine.run("runuser", "-u", "nobody", "--", "ls", ROOT).code != 0


def test_the_user_is_a_system_user_without_a_shell(machine: Machine) -> None:
    assert machine.shell("getent passwd icupa").split(":")[2:] == [
        "10000",
        "10000",
        "",
        "/opt/icupa",
        "/usr/sbin/nologin",
    ]
    assert machine.shell("id -nG icupa").split() == ["icupa", "docker"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ActiveState", "active"),
        ("SubState", "exited"),
        ("UnitFileState", "enabled"),
        ("User", "icupa"),
        ("WorkingDirectory", ROOT),
        ("RemainAfterExit", "yes"),
        ("Restart", "on-failure"),
        ("TimeoutStartUSec", "infinity"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
    ],
)
def test_the_unit_keeps_its_contract(machine: Machine, name: str, value: str) -> None:
    assert machine.shell(f"systemctl show --property {name} --value {UNIT}") == value


@pytest.mark.parametrize("name", ["Requires", "After"])
def test_the_unit_comes_after_the_engine(machine: Machine, name: str) -> None:
    assert "docker.service" in machine.shell(f"systemctl show --property {name} --value {UNIT}").split()


def test_only_the_active_slot_runs(machine: Machine) -> None:
    assert running(machine) == SERVICES


def test_migrations_ended_before_the_service_started(machine: Machine) -> None:
    found = containers(machine)
    migrated, served = found["migrate-blue"]["State"], found["agents-blue"]["State"]
    assert migrated["ExitCode"] == 0
    assert migrated["FinishedAt"] < served["StartedAt"]


def test_a_value_reaches_the_service_as_it_was_meant(machine: Machine) -> None:
    assert "QUOTED=it's $5 # no comment" in containers(machine)["agents-blue"]["Config"]["Env"]


def test_the_key_of_the_proxy_is_the_proxys(machine: Machine) -> None:
    assert machine.shell(f"stat -c '%a %u' {ROOT}/traefik/tls.pem") == "400 10002"


def test_a_refused_configuration_replaced_nothing(machine: Machine) -> None:
    assert machine.shell(f"cat {ROOT}/otel-collector/config.json") == "{}"
    assert machine.run("test", "-e", f"{ROOT}/.staging/tree").code != 0


def test_a_killed_process_comes_back(machine: Machine) -> None:
    for service in sorted(SERVICES):
        before = containers(machine)[service]["State"]["Pid"]
        machine.shell(f"kill -KILL {before}")

        def back(service: str = service, before: int = before) -> bool:
            state = containers(machine)[service]["State"]
            return bool(state["Running"]) and state["Pid"] not in (0, before)

        eventually(back, f"{service} comes back")


def test_stopping_the_unit_stops_everything_and_starting_brings_it_back(machine: Machine) -> None:
    machine.shell(f"systemctl stop {UNIT}")
    listed = machine.shell("docker ps --quiet --filter label=com.docker.compose.project=agents-service")
    assert listed == ""
    machine.shell(f"systemctl start {UNIT}")
    eventually(lambda: running(machine) == SERVICES, "every service runs")


def test_everything_comes_back_after_a_reboot(machine: Machine) -> None:
    machine.reboot()
    eventually(
        lambda: machine.run("systemctl", "is-active", UNIT).output.strip() == "active", "the unit is active"
    )
    eventually(lambda: running(machine) == SERVICES, "the same slot and its neighbours run")
