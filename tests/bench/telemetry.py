"""The trace backend down under load, the collector killed meanwhile (issue 3, acceptance 3; VM-7).

Spans are sent at a constant rate from beside the service to its collector. What the collector answered with
200 is accepted, and must be in the sink once the backend is back. An export that was not answered with 200 is
sent again, as the service's SDK does: duplicates come from exports that were taken but whose answer was lost,
too.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from infra import local
from infra.services import names
from tests import otlp_load
from tests.bench.harness import Result
from tests.otlp import COLLECTOR_URL, MachineTelemetry, active_machine, sink_spans
from tests.waiting import eventually

RATE = 50
BATCH = 10
MOST_DUPLICATES = 0.01
_MARGIN_SECONDS = 5.0
"""Load before the outage, and at least as much after it."""
_BACKEND_START_SECONDS = 20.0
_GRACE_SECONDS = 60.0
_RESTART_SECONDS = 90.0
_DRAIN_SECONDS = 600.0
_STILL_SECONDS = 50.0
_POLL = 2.0
_STORAGE = "/var/lib/otelcol"


@dataclass(frozen=True)
class Plan:
    """Length of the outage and when, as parts of it, the collector is killed."""

    outage: float
    kills: tuple[float, ...]

    @property
    def load(self) -> float:
        """Seconds of load."""
        return self.outage + 2 * _MARGIN_SECONDS + _BACKEND_START_SECONDS


LONG = Plan(600.0, (0.02, 0.2, 0.4, 0.405, 0.7, 0.98))
SHORT = Plan(20.0, (0.3, 0.7))


@dataclass
class Load:
    """What the sender said: attempts, and which spans were accepted."""

    answers: Counter[str] = field(default_factory=Counter)
    accepted: set[int] = field(default_factory=set)
    attempted: set[int] = field(default_factory=set)
    last: float = 0.0

    def take(self, line: str) -> None:
        """Note one attempt."""
        attempt: dict[str, Any] = json.loads(line)
        spans = range(int(attempt["first"]), int(attempt["first"]) + int(attempt["spans"]))
        self.attempted.update(spans)
        self.answers[str(attempt["answer"])] += 1
        if attempt["answer"] == "200":
            self.accepted.update(spans)
        self.last = float(attempt["at"])


@contextmanager
def _loading(
    telemetry: MachineTelemetry, run: str, seconds: float
) -> Iterator[tuple[Load, threading.Thread]]:
    """Send in the background; the thread ends when the sender has."""
    asked = {
        "run": run,
        "rate": RATE,
        "batch": BATCH,
        "seconds": seconds,
        "grace": _GRACE_SECONDS,
        "url": f"{COLLECTOR_URL}/v1/traces",
    }
    script = Path(otlp_load.__file__).read_text()
    command = telemetry.beside_the_service(script, json.dumps(asked))
    load = Load()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            for line in process.stdout or ():
                load.take(line)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield load, thread
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode:
        raise RuntimeError(f"the sender ended with {process.returncode}")


class Collector:
    """The collector of a machine: its main process, its queue."""

    def __init__(self, telemetry: MachineTelemetry) -> None:
        self._telemetry = telemetry
        self._container = telemetry.container(names.OTEL_COLLECTOR)

    def _state(self) -> dict[str, Any]:
        (found,) = json.loads(self._telemetry.on_machine("docker", "inspect", self._container))
        state: dict[str, Any] = found["State"]
        return {**state, "restarts": found["RestartCount"], "mounts": found["Mounts"]}

    def kill(self) -> float:
        """SIGKILL the main process; seconds until the container is healthy again, by itself."""
        before = self._state()
        began = time.monotonic()
        self._telemetry.on_machine("kill", "-KILL", str(before["Pid"]))

        def back() -> bool:
            state = self._state()
            restarted = state["restarts"] > before["restarts"]
            return bool(restarted and state["Running"] and state["Health"]["Status"] == "healthy")

        eventually(back, "the collector is back after SIGKILL", _RESTART_SECONDS)
        return time.monotonic() - began

    def on_disk(self) -> int:
        """Bytes of the queue's files that are allocated."""
        (source,) = [item["Source"] for item in self._state()["mounts"] if item["Destination"] == _STORAGE]
        return int(self._telemetry.on_machine("du", "-s", "--block-size=1", source).split()[0])


@dataclass
class Outage:
    """What was seen while the backend was down."""

    restarts: list[float] = field(default_factory=list)
    disk: list[int] = field(default_factory=list)
    seconds: float = 0.0
    ended: float = 0.0


def _backend() -> Container:
    return docker.from_env().containers.get(local.TRACES.container)


def _start(backend: Container) -> None:
    backend.start()

    def healthy() -> bool:
        backend.reload()
        return bool(backend.attrs["State"]["Health"]["Status"] == "healthy")

    eventually(healthy, "the trace backend is healthy")


def _outage(plan: Plan, collector: Collector) -> Outage:
    """Stop the backend for as long as planned, kill the collector when planned; always start it again."""
    seen = Outage()
    backend = _backend()
    kills = [part * plan.outage for part in plan.kills]
    backend.stop()
    began = time.monotonic()
    try:
        while (passed := time.monotonic() - began) < plan.outage:
            if kills and passed >= kills[0]:
                kills.pop(0)
                seen.restarts.append(collector.kill())
            else:
                seen.disk.append(collector.on_disk())
            pause = min([plan.outage, *kills[:1]]) - (time.monotonic() - began)
            time.sleep(max(0.0, min(pause, _POLL)))
    finally:
        seen.ended = time.monotonic()
        seen.seconds = seen.ended - began
        _start(backend)
    if kills:
        raise RuntimeError(f"{len(kills)} of the kills did not fit into the outage")
    return seen


def _await_spans(run: str, wanted: set[int], since: float) -> float:
    """Seconds from `since` until the sink had all wanted spans, or the deadline: the bars judge."""
    while True:
        missing = wanted - sink_spans(run).keys()
        seconds = time.monotonic() - since
        if not missing or seconds > _DRAIN_SECONDS:
            return seconds
        time.sleep(_POLL)


def _when_still(run: str) -> Counter[int]:
    """What the sink has when nothing came for longer than the exporter waits between attempts.

    So a duplicate that comes late is counted.
    """
    found = sink_spans(run)
    still = time.monotonic()
    while time.monotonic() - still < _STILL_SECONDS:
        time.sleep(_POLL)
        if (again := sink_spans(run)) != found:
            found, still = again, time.monotonic()
    return found


def run(*, short: bool = False) -> Result:
    """Measure one outage; every accepted span must arrive, with hardly any twice."""
    plan = SHORT if short else LONG
    telemetry = MachineTelemetry(active_machine())
    collector = Collector(telemetry)
    mark = secrets.token_hex(4)
    with _loading(telemetry, mark, plan.load) as (load, thread):
        eventually(lambda: bool(load.accepted), "the first span is accepted")
        eventually(lambda: load.last > _MARGIN_SECONDS, "load before the outage")
        seen = _outage(plan, collector)
        drain = _await_spans(mark, set(load.accepted), seen.ended)
        thread.join(plan.load + 2 * _GRACE_SECONDS)
    _await_spans(mark, load.accepted, time.monotonic())
    found = _when_still(mark)

    lost = load.accepted - found.keys()
    duplicates = sum(times - 1 for times in found.values())
    attempts = sum(load.answers.values())
    result = Result()
    result.sample("outage of the backend", [seen.seconds], "s")
    result.sample("collector back after SIGKILL", seen.restarts, "s")
    result.sample("queue drained after the backend's start", [drain], "s")
    result.sample("sent", [len(load.attempted)], "spans")
    result.sample("accepted", [len(load.accepted)], "spans")
    result.sample("never accepted", [len(load.attempted - load.accepted)], "spans")
    result.sample("arrived", [len(found)], "spans")
    result.sample("arrived more than once", [duplicates], "spans")
    result.sample("exports sent", [attempts], "exports")
    result.sample("exports refused or unanswered, sent again", [attempts - load.answers["200"]], "exports")
    result.sample("queue on disk during the outage", [size / 2**20 for size in seen.disk], "MiB")
    result.bar("accepted spans lost", len(lost), "==", 0)
    result.bar("duplicates, part of the accepted", duplicates / len(load.accepted), "<=", MOST_DUPLICATES)
    result.bar("SIGKILLs of the collector in the outage", len(seen.restarts), ">=", len(plan.kills))
    refused = {answer: count for answer, count in load.answers.items() if answer != "200"}
    result.notes.append(f"{RATE} spans/s in exports of {BATCH}; answers other than 200: {refused or 'none'}")
    return result
