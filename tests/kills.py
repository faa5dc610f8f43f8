"""`pulumi up` and the site play killed half way, and what `make up` makes of it (issue 3, acceptance 7)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from infra import local, paths
from infra.toolchain import state
from tests.running import PULUMI_UP, SITE, STACK, UP, play, serves, succeeds

_CONTAINER = "docker:index/container:Container"
_SHOWN = "docker:index:Container"
_MADE_ANEW = (local.TRACES.name, local.VENDORS.name, local.LOGIN.name, local.STANDBY.name)
"""Resources with work to do: a machine and, beside it, parties of the outside world."""


@dataclass(frozen=True)
class Moment:
    """When a run is killed: once its output has shown a line that matches `pattern` for the nth time."""

    name: str
    pattern: str
    nth: int = 1


PROGRAM_MOMENTS = (
    Moment("the lock is just taken", r"^@ [Uu]pdating"),
    Moment("the first container is being deleted", rf"{_SHOWN} \S+ deleting"),
    Moment("the first container is being made", rf"{_SHOWN} \S+ creating"),
    Moment("two containers are made", rf"{_SHOWN} \S+ created", 2),
    Moment("the machine is being made", rf"{_SHOWN} {local.STANDBY.name} creating"),
)
PLAY_MOMENTS = (
    Moment("files of controls are written, nothing is reloaded", r"^TASK \[hardening : Load the firewall"),
    Moment("the engine is configured, not restarted", r"^TASK \[docker_engine : Log in"),
    Moment("the project is written, its unit is not", r"^TASK \[agents_stack : Write the unit"),
    Moment("the services are being started", r"^TASK \[agents_stack : Run what"),
    Moment("the proxy is being pointed at the slot", r"^TASK \[edge : Point the proxy"),
)


class NeverReachedError(AssertionError):
    """A run ended before the moment at which it was to be killed."""


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, output and errors in one; it is gone afterwards."""
    process = subprocess.Popen(
        arguments,
        cwd=paths.REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(process)
        if process.stdout:
            process.stdout.close()


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the whole process group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def killed_at(arguments: Sequence[str], moment: Moment) -> None:
    """Start a command and kill it at a moment.

    Raises:
        NeverReachedError: it ended first; the message has its output.
    """
    seen, output, wanted = 0, [], re.compile(moment.pattern)
    with running(arguments) as process:
        assert process.stdout
        for line in process.stdout:
            output.append(line)
            seen += bool(wanted.search(line))
            if seen == moment.nth:
                kill(process)
                assert process.returncode == -signal.SIGKILL
                return
    raise NeverReachedError(f"{moment.name}: {moment.pattern} was not seen in\n{''.join(output)}")


def urns(names: Sequence[str]) -> list[str]:
    """URNs of containers by their names in the program."""
    listed = succeeds(["pulumi", "stack", "--show-urns", "--stack", STACK, "--non-interactive"])
    found = set(re.findall(rf"urn:pulumi:\S+{re.escape(_CONTAINER)}::(?:{'|'.join(names)})(?=\s)", listed))
    assert len(found) == len(names), found
    return sorted(found)


def anew(names: Sequence[str] = _MADE_ANEW) -> list[str]:
    """`pulumi up` that makes containers anew, so that there is something to interrupt."""
    return [*PULUMI_UP, *(f"--replace={urn}" for urn in urns(names))]


def kill_program(moment: Moment) -> None:
    """Kill `pulumi up` at a moment."""
    killed_at(anew(), moment)


def kill_play(moment: Moment) -> None:
    """Kill the site play at a moment of its work on a machine that is new."""
    succeeds(anew([local.STANDBY.name]))
    killed_at(SITE, moment)


def repaired() -> float:
    """`make up`'s second half after a kill: seconds until all is well, and has nothing more to change.

    Raises:
        AssertionError: it is not.
    """
    began = time.monotonic()
    succeeds(UP)
    took = time.monotonic() - began
    settled()
    return took


def settled() -> None:
    """Assert that the stack serves in both regions, and that a second run has nothing to change."""
    for place in local.MACHINES:
        serves(place.region)
    succeeds([*PULUMI_UP, "--expect-no-changes"])
    played = play()
    assert played.hosts == {place.name for place in local.MACHINES}
    assert played.changes == []
    assert list(state.locks(STACK)) == []


def held() -> state.Lock | None:
    """The lock on the stack, if somebody has it."""
    return next(iter(state.locks(STACK)), None)
