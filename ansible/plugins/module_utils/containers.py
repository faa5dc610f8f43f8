"""Containers of a Compose project and the unit that owns it: what runs, and what of it is wrong."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LABEL = "dev.icupa.configuration"
UP = ("active", "reloading")
"""States of a unit that is up: also while a run that was killed has left a reload under way, which ends."""


@dataclass(frozen=True)
class Container:
    """What matters of one container; `health` is empty where it has no check."""

    id: str
    service: str
    configuration: str
    status: str
    health: str
    exit_code: int
    restarts: int = 0
    healthy_since: float | None = None
    """Time of the first of its last checks that all went well, as far as the engine remembers."""


class ConvergeError(Exception):
    """The project did not reach its state."""


class Docker:
    """Docker's command line, as root, with the project's registry login."""

    def __init__(self, config: str | None) -> None:
        self.environment = {**os.environ, **({"DOCKER_CONFIG": config} if config else {})}

    def run(
        self, *arguments: str, timeout: float = 120, fail: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one command; ConvergeError with its message where `fail`."""
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=self.environment,
        )
        if fail and done.returncode != 0:
            raise ConvergeError(f"docker {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done

    def containers(self, project: str) -> list[Container]:
        """All containers of a project's services, also ended ones; not those of single commands."""
        wanted = [f"label={name}={value}" for name, value in labels_of(project).items()]
        filters = [word for label in wanted for word in ("--filter", label)]
        listed = self.run("ps", "--all", "--quiet", *filters)
        ids = listed.stdout.split()
        if not ids:
            return []
        return [container(item) for item in json.loads(self.run("inspect", *ids, fail=False).stdout)]


def labels_of(project: str) -> dict[str, str]:
    """Labels of the containers of a project's services."""
    return {"com.docker.compose.project": project, "com.docker.compose.oneoff": "False"}


def container(inspected: dict[str, Any]) -> Container:
    """What matters of what the engine says of a container."""
    labels, state = inspected["Config"]["Labels"], inspected["State"]
    return Container(
        id=inspected["Id"],
        service=labels.get("com.docker.compose.service", ""),
        configuration=labels.get(LABEL, ""),
        status=state["Status"],
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=state["ExitCode"],
        restarts=inspected.get("RestartCount", 0),
        healthy_since=healthy_since((state.get("Health") or {}).get("Log") or []),
    )


def healthy_since(checks: list[dict[str, Any]]) -> float | None:
    """When the last checks, oldest first, began to go well; None where the last one did not."""
    since = None
    for check in reversed(checks):
        if check["ExitCode"] != 0:
            break
        since = datetime.fromisoformat(check["Start"]).timestamp()
    return since


def unfit(
    services: dict[str, Any], idle: list[str], containers: list[Container], *, ready: bool
) -> dict[str, str]:
    """Service to what is wrong with it; with `ready`, one that is still starting counts as wrong too."""
    wrong: dict[str, str] = {}
    by_service: dict[str, list[Container]] = {}
    for container in containers:
        by_service.setdefault(container.service, []).append(container)
    for name, wanted in services.items():
        found = by_service.get(name, [])
        if not found:
            wrong[name] = "has no container"
        for container in found:
            if container.configuration != wanted["configuration"]:
                wrong[name] = "has an outdated configuration"
            elif wanted["job"]:
                if container.status != "exited" or container.exit_code != 0:
                    wrong[name] = f"has not ended well ({container.status}, exit code {container.exit_code})"
            elif container.status != "running":
                wrong[name] = f"is {container.status}"
            elif container.health == "unhealthy" or (ready and container.health == "starting"):
                wrong[name] = f"is {container.health}"
    for name in by_service:
        if name not in services and name not in idle:
            wrong[name] = "is not part of the project any more"
    return wrong


def unit_properties(unit: str) -> dict[str, str]:
    """What systemd knows of a unit."""
    names = "ActiveState,UnitFileState,NeedDaemonReload,FragmentPath"
    done = subprocess.run(
        ["systemctl", "show", "--property", names, unit], capture_output=True, text=True, check=False
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def unit_problems(unit: str, properties: dict[str, str]) -> dict[str, str]:
    """What is wrong with the unit itself."""
    if properties.get("ActiveState") not in UP:
        return {unit: "is not active"}
    if properties.get("UnitFileState") != "enabled":
        return {unit: "is not enabled"}
    if properties.get("NeedDaemonReload") == "yes":
        return {unit: "has a changed definition"}
    return {}
