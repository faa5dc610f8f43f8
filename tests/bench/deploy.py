"""Deploys under load beside plain `docker compose up -d`, in one run (issue 4, acceptance 1).

Releases of different digests are deployed in turn by the command that operators use, with a constant
open-loop load on the public name. Then the same load meets a plain recreate of the same container on the
same machine, between the same images. No image is fetched in a window: both are on the machines before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from shlex import quote

from infra import local
from infra.outputs.read import read_outputs
from infra.record import open_record
from infra.services import agents
from tests.bench.harness import OUTPUT, Result
from tests.load.plan import Kind
from tests.load.plan import Plan as LoadPlan
from tests.load.plot import timeline
from tests.load.process import Load
from tests.load.report import Report, Window, latencies, percentile
from tests.load.stack import loading
from tests.load.writes import Written, written
from tests.otlp import active_machine
from tests.releases import good, releases
from tests.running import STACK, command, machine, serves, succeeds

LEAST_RATE = 100
LEAST_IN_WINDOW = 500
FULL_TRAFFIC_SECONDS = 10
"""From the command until the new release answers everything, beside the longest request."""
_HOME = "/opt/icupa"
_PROJECT = f"{_HOME}/deployments/agents-service"
_ENGINE = f"cd {_PROJECT} && export DOCKER_CONFIG={_HOME}/.docker &&"
_RELEASES = ("bench one", "bench two", "bench three")
_BETWEEN = 400
"""Requests between two operations."""
_CALM_SECONDS = 3.0
_RECOVERY_SECONDS = 120.0
_LAST_LINES = 15


@dataclass(frozen=True)
class Plan:
    """How many deploys and plain recreates, and how many requests the deploys must have met in all."""

    deploys: int
    recreates: int
    requests: int
    most_seconds: float


LONG = Plan(20, 4, 30_000, 5400.0)
SHORT = Plan(2, 1, 2_000, 900.0)


@dataclass(frozen=True)
class Release:
    """A release that is deployed, and the commit by which its answers are told apart."""

    digest: str
    git_sha: str


@dataclass(frozen=True)
class Measured:
    """A load, what became of its writes, and which operations did not end well."""

    report: Report
    written: Written
    failures: tuple[str, ...] = ()


def deploy(digest: str) -> tuple[str, ...]:
    """Command of a deploy."""
    return (
        "ansible-playbook",
        "ansible/playbooks/deploy.yml",
        "-e",
        f"stack={STACK}",
        "-e",
        f"release={digest}",
    )


def _on_machines(release: Release, image: str) -> None:
    for place in local.MACHINES:
        machine(place).shell(f"{_ENGINE} docker pull --quiet {quote(f'{image}@{release.digest}')}")


def _deploys(plan: Plan, turn: Sequence[Release]) -> Measured:
    failures = []
    with loading(LoadPlan(seconds=plan.most_seconds)) as load:
        load.await_requests(_BETWEEN)
        for release in islice(cycle(turn), plan.deploys):
            with load.window(release.git_sha):
                done = command(deploy(release.digest))
            if done.returncode:
                lines = (done.stdout + done.stderr).splitlines()[-_LAST_LINES:]
                failures.append("\n".join([f"deploy of {release.digest}: {done.returncode}", *lines]))
            load.await_requests(_BETWEEN)
        report = load.finish()
    return Measured(report, written(load.run, report.acknowledged), tuple(failures))


class Compose:
    """Plain Compose in the project of the serving machine, past everything else."""

    def __init__(self) -> None:
        place = active_machine()
        outputs = read_outputs(STACK)
        state = open_record(outputs.record).state()
        self._machine = machine(place)
        self._image = outputs.release.image
        self._variable = agents.image_variable(state.host(place.name).active_slot)

    def up(self, digest: str | None = None) -> None:
        """`docker compose up -d` with another image for the serving slot, or with the one of its file."""
        image = f"{self._variable}={quote(f'{self._image}@{digest}')} " if digest else ""
        self._machine.shell(f"{_ENGINE} {image}docker compose up -d")


@contextmanager
def _recreating() -> Iterator[Compose]:
    compose = Compose()
    try:
        yield compose
    finally:
        compose.up()
        serves()


def _calm(load: Load) -> None:
    """Wait until nothing was lost for a while."""
    deadline = time.monotonic() + _RECOVERY_SECONDS
    lost, since = load.failed, time.monotonic()
    while time.monotonic() - since < _CALM_SECONDS:
        load.await_requests(50)
        if load.failed != lost:
            lost, since = load.failed, time.monotonic()
        if time.monotonic() > deadline:
            raise RuntimeError(f"requests are still lost {_RECOVERY_SECONDS:.0f} s after a recreate")


def _recreates(plan: Plan, other: Release) -> Measured:
    with _recreating() as compose:
        with loading(LoadPlan(seconds=plan.most_seconds)) as load:
            load.await_requests(_BETWEEN)
            for digest in islice(cycle((other.digest, None)), plan.recreates):
                with load.window("recreate"):
                    compose.up(digest)
                    _calm(load)
                load.await_requests(_BETWEEN)
            report = load.finish()
        return Measured(report, written(load.run, report.acknowledged))


def _latency(result: Result, name: str, report: Report) -> None:
    for where, entries in (("inside", report.during()), ("outside", report.outside())):
        values = [value * 1000 for value in latencies(entries)]
        for share in (0.5, 0.99):
            result.sample(f"{name}: p{share * 100:g} {where}", [percentile(values, share)], "ms")


def _lost_in(report: Report, window: Window) -> int:
    return sum(not entry.ok for entry in report.inside(window))


def _full_traffic(report: Report) -> list[float]:
    """Of each deploy whose release came to answer all by itself."""
    taken = [report.taken_over(window.name, window) for window in report.windows]
    return [seconds for seconds in taken if seconds is not None]


def judge(plan: Plan, deployed: Measured, recreated: Measured) -> Result:
    """Figures and bars of both loads."""
    report = deployed.report
    result = Result()
    longest = max((one.ended - one.started for one in report.entries if one.kind is Kind.STREAM), default=0.0)
    full = _full_traffic(report)
    inside = [len(report.inside(window)) for window in report.windows]
    if full:
        result.sample("deploy: command to full traffic", full, "s")
        result.bar("command to full traffic, slowest", max(full), "<=", FULL_TRAFFIC_SECONDS + longest)
    result.sample("deploy: command to its end", [window.seconds for window in report.windows], "s")
    result.sample("compose: command to no more losses", [w.seconds for w in recreated.report.windows], "s")
    _latency(result, "deploy", report)
    _latency(result, "compose", recreated.report)
    result.sample("deploy: requests inside a window", inside, "requests")
    result.sample("deploy: requests", [len(report.entries)], "requests")
    result.sample("deploy: lost in a window", [_lost_in(report, w) for w in report.windows], "requests")
    result.sample(
        "compose: lost in a window",
        [_lost_in(recreated.report, w) for w in recreated.report.windows],
        "requests",
    )
    result.sample("deploy: rate", [report.rate], "requests/s")
    result.bar("requests lost", len(report.failed), "==", 0)
    result.bar("acknowledged writes missing", len(deployed.written.missing), "==", 0)
    result.bar("writes made again", deployed.written.repeated, "==", 0)
    result.bar("deploys that did not end well", len(deployed.failures), "==", 0)
    result.bar("deploys", len(report.windows), ">=", plan.deploys)
    result.bar("requests in all", len(report.entries), ">=", plan.requests)
    result.bar("fewest requests inside a deploy", min(inside), ">=", LEAST_IN_WINDOW)
    result.bar("requests/s", report.rate, ">=", LEAST_RATE)
    result.bar("deploys after which the release answered everything", len(full), ">=", plan.deploys)
    reasons = [*report.invalid(), *recreated.report.invalid()]
    result.bar("reasons why the load proves nothing", len(reasons), "==", 0)
    result.notes += reasons
    result.notes += deployed.failures
    for name, measured in (("deploy", deployed), ("compose", recreated)):
        result.notes += [f"{name}: {line}" for line in measured.report.summary()]
        if measured.written.missing:
            result.notes.append(f"{name}: {len(measured.written.missing)} acknowledged writes are missing")
    return result


def run(*, short: bool = False) -> Result:
    """Deploy and recreate under load; the release that was good before serves again at the end."""
    plan = SHORT if short else LONG
    serves()
    before = open_record(read_outputs(STACK).record).state().release.digest
    with releases() as made:
        turn = [Release(made.make(recipe), recipe.git_sha) for recipe in map(good, _RELEASES)]
        for release in turn:
            _on_machines(release, made.repository.image)
    try:
        deployed = _deploys(plan, turn)
        serving = open_record(read_outputs(STACK).record).state().release.digest
        other = next(release for release in turn if release.digest != serving)
        recreated = _recreates(plan, other)
    finally:
        succeeds(deploy(before))
    timeline(
        OUTPUT / "deploy-timeline.png",
        "the same load on a deploy and on a plain recreate",
        {"deploy.yml": deployed.report, "docker compose up -d": recreated.report},
    )
    return judge(plan, deployed, recreated)
