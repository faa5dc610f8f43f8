"""The engine as it runs, not as it is configured: settings, trust, login, restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.molecule.machine import Machine
from tests.waiting import eventually


@pytest.fixture
def machine(host: Host) -> Machine:
    return Machine.of(host)


def information(machine: Machine) -> dict[str, Any]:
    return dict(json.loads(machine.shell("docker info --format '{{json .}}' 2>/dev/null")))


def test_compose_is_version_2(machine: Machine) -> None:
    assert machine.shell("docker compose version --short").lstrip("v").split(".")[0] == "2"


def test_settings_are_in_force(machine: Machine) -> None:
    found = information(machine)
    assert found["LiveRestoreEnabled"] is True
    assert found["LoggingDriver"] == "local"
    assert found["Driver"] == "overlay2"
    assert "name=no-new-privileges" in found["SecurityOptions"]


def hard_limit(machine: Machine) -> str:
    # The machine is a container itself: it can't give more than it has.
    return machine.shell("awk '/Max open files/ { print $5 }' /proc/1/limits")


def test_containers_get_limits_and_resolver(machine: Machine) -> None:
    machine.container_run("limits", "--publish 8081:80")
    inspected = json.loads(machine.shell("docker inspect limits"))[0]
    assert inspected["HostConfig"]["LogConfig"] == {
        "Type": "local",
        "Config": {"max-file": "5", "max-size": "20m"},
    }
    assert "NoNewPrivs:\t1" in machine.shell("docker exec limits cat /proc/self/status")
    assert "nameserver 192.0.2.53" in machine.shell("docker exec limits cat /etc/resolv.conf")
    limits = machine.shell("docker exec limits cat /proc/self/limits")
    assert next(line for line in limits.splitlines() if "open files" in line).split()[3] == hard_limit(
        machine
    )
    assert "docker-proxy" not in machine.shell("ps -eo comm")


def test_containers_live_through_a_restart_of_the_engine(machine: Machine) -> None:
    machine.container_run("lives")
    before = machine.container_process("lives")
    machine.shell("systemctl restart docker")
    assert machine.container_process("lives") == before
    assert machine.shell("docker exec lives echo alive") == "alive"


def test_engine_and_containers_are_back_after_a_reboot(machine: Machine) -> None:
    machine.container_run("back")
    machine.reboot()
    eventually(lambda: machine.run("docker", "exec", "back", "true").code == 0, "the container is back")


def pull(machine: Machine, client: str) -> str:
    # Not on the loopback: the engine trusts anything there.
    name, address = "registry.molecule.test", machine.address()
    machine.shell(f"grep -q {name} /etc/hosts || echo {address} {name} >> /etc/hosts")
    if machine.run("systemctl", "is-active", "registry-double").code != 0:
        machine.shell(f"systemd-run --unit registry-double python3 /srv/registry.py {address}")
    not_yet = ("connection refused", "no such host")

    def answer() -> str:
        image = "registry.molecule.test/nothing:1"
        return machine.run("docker", "--config", client, "pull", image).output

    eventually(lambda: not any(text in answer() for text in not_yet), "the registry's double answers")
    return answer()


def test_registry_is_trusted_and_the_login_is_used(machine: Machine) -> None:
    assert "manifest unknown" in pull(machine, "/root/.docker")
    assert "basic auth" in pull(machine, "/nowhere")


def test_without_trust_the_same_registry_is_refused(machine: Machine) -> None:
    directory = "/etc/docker/certs.d/registry.molecule.test"
    machine.shell(f"mv {directory} /srv/aside")
    try:
        assert "certificate" in pull(machine, "/root/.docker")
    finally:
        machine.shell(f"mv /srv/aside {directory}")


def test_login_is_only_for_its_owner(host: Host) -> None:
    file = host.file("/root/.docker/config.json")
    assert (file.user, file.mode) == ("root", 0o600)
    assert host.file("/root/.docker").mode == 0o700


def test_refused_settings_were_not_written(host: Host) -> None:
    assert "no-such-setting" not in host.file("/etc/docker/daemon.json").content_string
    assert host.service("docker").is_running
