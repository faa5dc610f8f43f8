"""What bringing the local stack up costs, in all and where nothing is to be done (issue 3: 1, 7 and 9).

Time per task and host is the wall time of `ansible-playbook`, with its own start and its read of the stack,
divided by the task results of all hosts: `ok` of the recap, which counts changed ones and no skipped ones.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from infra.paths import REPOSITORY
from tests.bench.harness import Result
from tests.running import PULUMI_UP, SITE, STACK

UP_SECONDS = 6
TASK_SECONDS = 0.2
FROM_NOTHING_SECONDS = 180
AGAIN_SECONDS = 60
PREVIEW = ("pulumi", "preview", "--stack", STACK, "--non-interactive")
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_RESOURCES = re.compile(r"^Resources:\n((?:[ \t]+\S.*\n?)+)", re.MULTILINE)
_DURATION = re.compile(r"^Duration: (?:(\d+)m)?(\d+)s$", re.MULTILINE)
_OPERATION = re.compile(r"(\d+) (\w+)$", re.MULTILINE)
_LINES_OF_AN_ERROR = 40


@dataclass(frozen=True)
class Run:
    """A command that ended well: seconds, and what it printed."""

    seconds: float
    output: str


@dataclass(frozen=True)
class Recap:
    """Task results of all hosts of all plays in an output."""

    ran: int
    changed: int


def recap(output: str) -> Recap:
    """Sum up what Ansible's recaps say.

    Raises:
        ValueError: there is none.
    """
    rows = _RECAP.findall(output)
    if not rows:
        raise ValueError("the output has no recap of a play")
    return Recap(sum(int(row[1]) for row in rows), sum(int(row[2]) for row in rows))


def resources_changed(output: str) -> int:
    """Resources that Pulumi created, updated, replaced or deleted.

    Raises:
        ValueError: the output does not say.
    """
    found = _RESOURCES.findall(output)
    if len(found) != 1:
        raise ValueError(f"the output has {len(found)} summaries of resources")
    operations = [(int(count), what) for count, what in _OPERATION.findall(found[0])]
    if not operations:
        raise ValueError(f"not a summary of resources: {found[0]!r}")
    return sum(count for count, what in operations if what != "unchanged")


def duration(output: str) -> float:
    """Seconds that Pulumi says an update took: without its own start, its plugins' and their end.

    Raises:
        ValueError: it does not say.
    """
    found = _DURATION.findall(output)
    if len(found) != 1:
        raise ValueError(f"the output has {len(found)} durations")
    minutes, seconds = found[0]
    return 60.0 * int(minutes or 0) + int(seconds)


def measured(command: Sequence[str]) -> Run:
    """Run a command.

    Raises:
        RuntimeError: it failed; the message has the end of what it printed.
    """
    # What this make was given is not for another one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment.pop("MFLAGS", None)
    environment |= {"ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1"}
    print(f"bench: {' '.join(command)}", file=sys.stderr, flush=True)
    began = time.monotonic()
    done = subprocess.run(
        list(command),
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    print(f"bench: {seconds:.1f} s", file=sys.stderr, flush=True)
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-_LINES_OF_AN_ERROR:])
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{end}")
    return Run(seconds, done.stdout)


def _again(command: Sequence[str], times: int) -> list[Run]:
    return [measured(command) for _ in range(times)]


def _from_nothing(result: Result) -> None:
    down = measured(["make", "down"])
    up = measured(["make", "up"])
    result.sample("make down", [down.seconds], "s")
    result.sample("make up, from nothing", [up.seconds], "s")
    result.bar("make up from nothing, s", up.seconds, "<=", FROM_NOTHING_SECONDS)


def run(*, short: bool = False) -> Result:
    """Measure; the long form takes the stack down first, with its record, and brings it up from nothing."""
    times = 1 if short else 5
    result = Result()
    if not short:
        _from_nothing(result)
    measured(["make", "up"])  # whatever was there before, nothing is left to do after this

    preview = _again(PREVIEW, times)
    pulumi = _again(PULUMI_UP, times)
    site = _again(SITE, times)
    again = _again(["make", "up"], 1 if short else 3)
    recaps = [recap(play.output) for play in site]
    tasks = [play.seconds / found.ran for play, found in zip(site, recaps, strict=True)]

    result.sample("preview, no change", [one.seconds for one in preview], "s")
    result.sample("pulumi up, no change", [one.seconds for one in pulumi], "s")
    result.sample("pulumi up, no change, as it says", [duration(one.output) for one in pulumi], "s")
    result.sample("site play, no change", [one.seconds for one in site], "s")
    result.sample("make up, again", [one.seconds for one in again], "s")
    result.sample("site play, per task and host", [1000 * seconds for seconds in tasks], "ms")
    result.sample("task results of a site play", [found.ran for found in recaps], "results")
    pulumi_median = result.figures["pulumi up, no change"].median
    result.bar("pulumi up without a change, median s", pulumi_median, "<=", UP_SECONDS)
    median = result.figures["site play, per task and host"].median / 1000
    result.bar("site play per task and host, median s", median, "<=", TASK_SECONDS)
    result.bar("make up again, most s", max(one.seconds for one in again), "<=", AGAIN_SECONDS)
    changed = [resources_changed(one.output) for one in (*pulumi, *again)]
    result.bar("resources changed by an up again", sum(changed), "==", 0)
    changed = [recap(one.output).changed for one in (*site, *again)]
    result.bar("task results changed by a play again", sum(changed), "==", 0)
    return result
