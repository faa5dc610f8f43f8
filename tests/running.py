"""The running local stack, as system tests and benchmarks handle it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import local, paths
from infra.outputs.read import read_outputs
from infra.smoke import report
from infra.smoke.checks import Smoke
from infra.smoke.target import find_target
from tests.molecule.machine import Machine
from tests.waiting import eventually

STACK = "local"
SITE = ("ansible-playbook", "ansible/playbooks/site.yml", "-e", f"stack={STACK}")
PULUMI_UP = ("pulumi", "up", "--stack", STACK, "--yes", "--skip-preview", "--non-interactive")
UP = (sys.executable, "-m", "infra.up")
TIMEOUT = 600.0
_LAST_LINES = 40
AS_JSON = {
    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.timer",
}


def command(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a native command as an operator does, in the tree; its exit code is the caller's to judge."""
    return subprocess.run(
        arguments,
        cwd=paths.REPOSITORY,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def succeeds(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a command that must end with 0.

    Raises:
        AssertionError: it did not; the message has its last lines.
    """
    done = command(arguments, environment)
    if done.returncode != 0:
        shown = [line for text in (done.stdout, done.stderr) for line in text.splitlines()[-_LAST_LINES:]]
        raise AssertionError("\n".join([f"{' '.join(arguments)}: {done.returncode}", *shown]))
    return done.stdout


def smoke_failures(region: str | None = None) -> list[str]:
    """Lines of the smoke checks that fail: of the public name, or of a region's."""
    smoke = Smoke(find_target(read_outputs(STACK), STACK, region))
    results = list(report.run(smoke.checks()))
    assert results, "no check was made"
    return [result.line for result in report.failed(results)]


def serves(region: str | None = None, deadline: float = 120.0) -> None:
    """Wait until the whole smoke passes.

    Raises:
        AssertionError: it did not within `deadline` seconds; the message has the last failures.
    """
    last: list[str] = []

    def passes() -> bool:
        last[:] = smoke_failures(region)
        return not last

    try:
        eventually(passes, f"the smoke of {region or 'the public name'} passes", deadline)
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *last])) from None


def machine(place: local.Machine) -> Machine:
    """Handle of a machine of the stack."""
    return Machine(place.container)


@dataclass(frozen=True)
class Played:
    """A site play that ended well: its recap by host, and `host: task` of what it changed."""

    recap: Mapping[str, Mapping[str, int]]
    changes: Sequence[str]

    @property
    def hosts(self) -> set[str]:
        """Who took part, without the controller."""
        return set(self.recap) - {"localhost"}


def play(*options: str, environment: Mapping[str, str] | None = None) -> Played:
    """Run the site play.

    Raises:
        AssertionError: it failed; the message names the tasks.
    """
    done = command([*SITE, *options], {**AS_JSON, **(environment or {})})
    begins = re.search(r"^\{", done.stdout, re.MULTILINE)
    assert begins, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[begins.start() :])[0]
    failed = [*_tasks(document, "failed"), *_tasks(document, "unreachable")]
    assert done.returncode == 0, "\n".join([f"ended with {done.returncode}", *failed, done.stderr])
    return Played(document["stats"], _tasks(document, "changed"))


def _tasks(document: Mapping[str, Any], state: str) -> list[str]:
    return [
        f"{host}: {task['task']['name']}" + (f": {result.get('msg')}" if state != "changed" else "")
        for each in document["plays"]
        for task in each["tasks"]
        for host, result in task["hosts"].items()
        if result.get(state)
    ]


def outputs_document() -> dict[str, Any]:
    """The stack's outputs as Pulumi has them."""
    document: dict[str, Any] = json.loads(
        succeeds(["pulumi", "stack", "output", "--json", "--stack", STACK, "--non-interactive"])
    )
    return document


def backend_files() -> list[Path]:
    """Files of Pulumi's file backend."""
    return [file for file in paths.pulumi_backend().rglob("*") if file.is_file()]
