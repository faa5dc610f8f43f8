"""Machines and services of the running local stack come back by themselves (issue 3, acceptance 4).

Containers of the outside world: test_world.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from infra import local
from tests.molecule.machine import Machine
from tests.running import machine, outputs_document, serves
from tests.waiting import eventually

pytestmark = pytest.mark.system

MACHINES = pytest.mark.parametrize("place", local.MACHINES, ids=lambda place: place.name)


@dataclass(frozen=True)
class Process:
    """First process of a container, as its machine sees it."""

    pid: int
    started: str
    healthy: bool


def processes(of: Machine) -> dict[str, Process]:
    """By Compose service, those that run for good."""
    done = of.run("sh", "-c", "docker inspect $(docker ps --quiet)")
    if done.code != 0:
        return {}
    found: list[dict[str, Any]] = json.loads(done.output)
    return {
        item["Config"]["Labels"]["com.docker.compose.service"]: Process(
            item["State"]["Pid"],
            item["State"]["StartedAt"],
            item["State"]["Running"] and item["State"].get("Health", {}).get("Status") == "healthy",
        )
        for item in found
    }


def expected(place: local.Machine, of: Machine) -> set[str]:
    """Services of the rendered project that run for good on a machine, the idle slot's left out."""
    compose = outputs_document()["projects"][place.name]["compose"]["services"]
    (profiles,) = of.shell("grep ^COMPOSE_PROFILES= /opt/icupa/deployments/agents-service/.env").split("\n")
    active = set(profiles.split("=")[1].strip("'\"").split(","))
    return {
        name
        for name, service in compose.items()
        if set(service.get("profiles", active)) & active and service.get("restart", "no") != "no"
    }


@MACHINES
def test_a_reboot_needs_no_hands(place: local.Machine) -> None:
    rebooted = machine(place)
    before = processes(rebooted)
    rebooted.reboot()
    serves(place.region)
    serves()
    after = processes(rebooted)
    assert set(after) == set(before) == expected(place, rebooted)
    assert all(after[name].started != before[name].started for name in before)


@MACHINES
def test_what_is_killed_comes_back_by_itself(place: local.Machine) -> None:
    host = machine(place)
    services = processes(host)
    assert set(services) == expected(place, host)
    for name, before in services.items():
        host.shell(f"kill -KILL {before.pid}")

        def back(name: str = name, before: Process = before) -> bool:
            now = processes(host).get(name)
            return now is not None and now.healthy and now.started != before.started and now.pid != before.pid

        eventually(back, f"{name} of {place.name} is back after SIGKILL")
    serves(place.region)
    serves()
