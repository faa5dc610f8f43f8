"""Kills a procedure's controller after each of its steps; the steps come from the playbook itself.

A test callback does it: product code has no hook. Usage:

    steps = trace(COMMAND)                       # one whole run; then, for each of steps:
    kill_after(step, COMMAND)                    # a run that is killed there
    succeeds(COMMAND)                            # the same command again must converge
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra import paths

PLUGINS = Path(__file__).resolve().parent / "callback"
TIMEOUT = 600.0
_LISTED = re.compile(r"^ {6}(\S.*?)\tTAGS: \[", re.MULTILINE)


class NotKilledError(AssertionError):
    """A run ended, or came to another step, before it could be killed; the message has its output."""


@dataclass(frozen=True)
class Step:
    """The `number`-th task of a run, from 1 on, with the name that Ansible shows for it, and if it changed
    something on any host: a run of the same command elsewhere may differ in that."""

    number: int
    name: str
    changed: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


@dataclass(frozen=True)
class Killed:
    """A run that was killed: what it had shown, and the steps that it had taken."""

    output: str
    steps: Sequence[Step]


def listed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Names of the tasks that `--list-tasks` shows; those of dynamic includes are not among them."""
    done = _run([*command, "--list-tasks"], environment, None)[0]
    assert done.returncode == 0, done.stdout
    names = _LISTED.findall(done.stdout)
    assert names, f"no task is listed in\n{done.stdout}"
    return [str(name) for name in names]


def trace(command: Sequence[str], environment: Mapping[str, str] | None = None) -> list[Step]:
    """Run a command to its good end; the steps that it took, those of dynamic includes too."""
    done, steps = _run(command, environment, None)
    assert done.returncode == 0, done.stdout
    assert steps, f"no step was taken in\n{done.stdout}"
    return steps


def kill_after(step: Step, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Killed:
    """Run a command and SIGKILL its process group after a step has ended on all hosts, before the next one.

    Raises:
        NotKilledError: it did not come to that step.
    """
    done, steps = _run(command, environment, step.number)
    if done.returncode != -signal.SIGKILL or not steps or steps[-1] != step:
        last = steps[-1] if steps else "none"
        raise NotKilledError(f"after {step}: ended with {done.returncode}, last step {last}\n{done.stdout}")
    return Killed(done.stdout, steps)


def spread(steps: Sequence[Step], count: int) -> list[Step]:
    """`count` of the steps, evenly, the first and the last among them."""
    assert 2 <= count <= len(steps), f"{len(steps)} steps"
    return [steps[round(index * (len(steps) - 1) / (count - 1))] for index in range(count)]


def moments(steps: Sequence[Step]) -> list[Step]:
    """The first step, each that changed something, and the last: any other leaves all as one before did."""
    return [step for step in steps if step.changed or step in (steps[0], steps[-1])]


def _run(
    command: Sequence[str], environment: Mapping[str, str] | None, after: int | None
) -> tuple[subprocess.CompletedProcess[str], list[Step]]:
    given = {**os.environ, **(environment or {})}
    own = str(paths.REPOSITORY / "ansible" / "plugins" / "callback")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "steps"
        file.touch()
        # The killer first: after the last step, nothing of ours may have happened yet.
        given["ANSIBLE_CALLBACK_PLUGINS"] = os.pathsep.join([str(PLUGINS), own])
        given["KILLER_TRACE"] = str(file)
        given.pop("KILLER_AFTER", None)
        if after is not None:
            given["KILLER_AFTER"] = str(after)
        with subprocess.Popen(
            command,
            cwd=paths.REPOSITORY,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        lines = file.read_text().splitlines()
    done = subprocess.CompletedProcess(list(command), process.returncode, output, "")
    steps: list[Step] = []
    for line in lines:
        if line:
            steps.append(Step(len(steps) + 1, line))
        else:
            steps[-1] = replace(steps[-1], changed=True)
    return done, steps
