"""The record's stores under two writers (issue 3, acceptance 8): exactly one wins each conditional write."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from infra.record import Record, RecordConfig, Release, Slot, Switch, open_record
from tests.bench.harness import Result, timed
from tests.contest import Outcome, contest
from tests.gateway import running_gateway

TRIES = 10_000
SHORT_TRIES = 1_000
WRITERS = 2
_EVENTS = 50


def digest(letter: str) -> str:
    """A digest that is as good as any."""
    return f"sha256:{letter * 64}"


def bootstrapped(config: RecordConfig) -> Record:
    """A record with two hosts."""
    record = open_record(config)
    release = Release(
        image="registry.example/agents",
        digest=digest("a"),
        git_sha="0" * 40,
        deployed_at=datetime.now(UTC),
        by="bench",
    )
    record.bootstrap(
        release=release,
        hosts=["primary", "standby"],
        switches=dict.fromkeys(Switch, True),
        active_region="primary",
    )
    return record


@contextmanager
def _configurations() -> Iterator[dict[str, Callable[[str], RecordConfig]]]:
    with (
        tempfile.TemporaryDirectory() as name,
        running_gateway(Path(name)) as gateway,
        mock.patch.dict(os.environ, gateway.environment),
    ):
        yield {
            "directory": lambda prefix: RecordConfig(url=f"file://{name}/{prefix}"),
            "S3 gateway": gateway.config,
        }


def _judge(result: Result, driver: str, outcome: Outcome) -> None:
    result.sample(f"{driver}: tries", [outcome.tries], "tries")
    result.sample(f"{driver}: race", [outcome.seconds], "s")
    wrong = sum(
        rounds for counts in outcome.winners.values() for winners, rounds in counts.items() if winners != 1
    )
    result.bar(f"{driver}: rounds without exactly one winner", wrong + outcome.strangers, "==", 0)
    result.bar(f"{driver}: lost increments", outcome.increments - outcome.counted, "==", 0)


def _measure(result: Result, driver: str, config: RecordConfig) -> None:
    record = bootstrapped(config)
    with record.lease("bench") as lease:
        lease.update("bench.slot", lambda state: state.with_slot("primary", Slot.GREEN, digest("b")))

        def switch() -> None:
            lease.update(
                "bench.switch",
                lambda state: state.with_active_slot("primary", state.host("primary").active_slot.other),
            )

        changes = [timed(switch) for _ in range(_EVENTS)]
        reads = [timed(record.state) for _ in range(_EVENTS)]
    result.sample(f"{driver}: change of the state", [1000 * seconds for seconds in changes], "ms")
    result.sample(f"{driver}: read of the state", [1000 * seconds for seconds in reads], "ms")
    began = time.monotonic()
    found = record.verify()
    result.sample(f"{driver}: verification of {found.events} events", [time.monotonic() - began], "s")
    result.bar(f"{driver}: problems found in an untouched log", len(found.problems), "==", 0)


def run(*, short: bool = False) -> Result:
    """Race two processes on both drivers, and time what procedures do with a record."""
    tries = SHORT_TRIES if short else TRIES
    result = Result()
    with _configurations() as configurations:
        for driver, config in configurations.items():
            outcome = contest(
                config("race"), writers=WRITERS, rounds=tries // (2 * WRITERS), increments=tries // 10
            )
            _judge(result, driver, outcome)
            _measure(result, driver, config("record"))
    return result
