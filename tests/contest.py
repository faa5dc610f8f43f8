"""Processes that race for conditional writes on one store, and what came of it."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from queue import Empty
from typing import Any

from infra.record import ConflictError, NotFoundError, RecordConfig, open_store

WORKER_TIMEOUT = 1800.0
_POLL = 0.2
_COUNTER = "race/counter"
_REGISTER = "race/register"


@dataclass(frozen=True)
class Outcome:
    """What came of a contest: for each kind rounds by number of winners, and the counter's two sums."""

    writers: int
    rounds: int
    winners: Mapping[str, Counter[int]]
    strangers: int
    """Rounds whose stored bytes are not those of the one who was told to have won."""
    counted: int
    increments: int
    seconds: float

    @property
    def tries(self) -> int:
        """Conditional writes that were tried in the rounds."""
        return 2 * self.rounds * self.writers

    @property
    def exact(self) -> bool:
        """Whether every round had exactly one winner, whose bytes are stored, and no increment was lost."""
        one = all(set(counts) == {1} for counts in self.winners.values())
        return one and self.strangers == 0 and self.counted == self.increments > 0


def _race(
    config: RecordConfig,
    writer: int,
    *,
    rounds: int,
    increments: int,
    start: Barrier,
    results: Queue[Any],
) -> None:
    store = open_store(config)
    created, replaced, content = [], [], {}
    for number in range(rounds):
        mine = f"{writer} {number} {os.getpid()}".encode()
        start.wait(WORKER_TIMEOUT)
        try:
            store.put_if_absent(f"race/{number}", mine)
            created.append(number)
            content[number] = mine
        except ConflictError:
            pass
        version = store.get(_REGISTER).version
        # Everybody has the same version before anybody writes.
        start.wait(WORKER_TIMEOUT)
        try:
            store.put_if_match(_REGISTER, mine, version)
            replaced.append(number)
        except ConflictError:
            pass
    done = 0
    start.wait(WORKER_TIMEOUT)
    while done < increments:
        found = store.get(_COUNTER)
        value = int(found.data.split()[0])
        try:
            store.put_if_match(_COUNTER, f"{value + 1} {writer}".encode(), found.version)
            done += 1
        except ConflictError:
            continue
    results.put((created, replaced, content, done))


def _report(results: Queue[Any], workers: Sequence[BaseProcess]) -> Any:
    """What one worker tells in the end; RuntimeError as soon as one has died of an error."""
    deadline = time.monotonic() + WORKER_TIMEOUT
    while time.monotonic() < deadline:
        try:
            return results.get(timeout=_POLL)
        except Empty:
            if any(worker.exitcode for worker in workers):
                for worker in workers:
                    worker.kill()
                raise RuntimeError("a writer died of an error, see standard error") from None
    raise TimeoutError(f"the contest took more than {WORKER_TIMEOUT:.0f} s")


def contest(config: RecordConfig, *, writers: int, rounds: int, increments: int) -> Outcome:
    """Let processes race: in every round for one new object and for one replacement, then for a counter.

    Credentials are taken from this process's environment.
    """
    # Not fork: the client's threads would not be there in the child.
    context = multiprocessing.get_context("spawn")
    store = open_store(config)
    try:
        store.get(_REGISTER)
    except NotFoundError:
        store.put_if_absent(_REGISTER, b"nobody")
        store.put_if_absent(_COUNTER, b"0 nobody")
    results = context.Queue()
    shared = {
        "rounds": rounds,
        "increments": increments,
        "start": context.Barrier(writers),
        "results": results,
    }
    workers = [
        context.Process(target=_race, args=(config, number), kwargs=shared, daemon=True)
        for number in range(writers)
    ]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    reports = [_report(results, workers) for _ in workers]
    seconds = time.monotonic() - began
    for worker in workers:
        worker.join(WORKER_TIMEOUT)
    created: Counter[int] = Counter(number for report in reports for number in report[0])
    replaced: Counter[int] = Counter(number for report in reports for number in report[1])
    strangers = sum(
        store.get(f"race/{number}").data != mine for report in reports for number, mine in report[2].items()
    )
    return Outcome(
        writers=writers,
        rounds=rounds,
        winners={
            "create": Counter(created[number] for number in range(rounds)),
            "replace": Counter(replaced[number] for number in range(rounds)),
        },
        strangers=strangers,
        counted=int(store.get(_COUNTER).data.split()[0]),
        increments=sum(report[3] for report in reports),
        seconds=seconds,
    )
