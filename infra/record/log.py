"""The event log with its checkpoint: how the record is read, appended to and checked.

The rule that keeps state and log from disagreeing: the log is the truth. An event `events/<seq>.json` is
created with `put_if_absent` and holds the whole state after it; that creation is the one moment at which a
change happens. `state.json` is a checkpoint, moved forward afterwards with `put_if_match`. Whoever reads
starts there and applies the events behind it, so what a killed writer left is complete for every reader.
The checkpoint also anchors the head of the chain: a log whose tail is gone is found.
"""

from __future__ import annotations

import json
import logging
import random
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from infra.record import evidence, process
from infra.record.errors import (
    ConflictError,
    CorruptRecordError,
    NotBootstrappedError,
    NotFoundError,
    StoreUnavailableError,
)
from infra.record.model import NO_HASH, Checkpoint, Event, Head, Result, State, canonical, digest_of, now
from infra.record.store import Store

CHECKPOINT = "state.json"
EVENTS = "events"

_KEY = re.compile(EVENTS + r"/(\d{9})\.json")
_BUSY_AFTER = 60.0
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.5
_READERS = 8

_log = logging.getLogger(__name__)


def event_key(seq: int) -> str:
    """Key of an event."""
    return f"{EVENTS}/{seq:09d}.json"


@dataclass(frozen=True)
class Draft:
    """What the caller says of an event; the log adds the rest. `state` None: nothing changed."""

    action: str
    state: State | None = None
    who: str | None = None
    operation_id: str | None = None
    result: Result = Result.OK
    digest: str | None = None
    duration: float | None = None
    why: str = ""
    token: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The record at one moment: the last event, and the state after it."""

    seq: int
    hash: str
    state: State | None
    checkpoint: str | None
    """Version of the checkpoint that it was read from."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with the log; `seq` of the event, None for the checkpoint."""

    seq: int | None
    kind: str
    message: str


@dataclass(frozen=True)
class Verification:
    """Result of checking the whole log."""

    events: int
    head: str
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class Log:
    """Events and checkpoint in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self) -> Snapshot:
        """The record as it is now; `seq` 0 and no state before bootstrap.

        Raises:
            CorruptRecordError: checkpoint or a newer event can't be what it must be.
        """
        snapshot = self._checkpoint()
        while True:
            try:
                data = self.store.get(event_key(snapshot.seq + 1)).data
            except NotFoundError:
                return snapshot
            event = self._parse(snapshot.seq + 1, data, snapshot.hash)
            snapshot = Snapshot(event.seq, event.hash, event.state or snapshot.state, snapshot.checkpoint)

    def state(self) -> State:
        """The state as it is now.

        Raises:
            NotBootstrappedError: there is none yet.
        """
        return self._state_of(self.read())

    def append(self, draft: Callable[[State], Draft]) -> Event:
        """Append the event that `draft` makes of the current state, again when another writer was first.

        Raises:
            NotBootstrappedError: there is no state yet.
            StoreUnavailableError: other writers are first for a minute.
        """
        return self._append(lambda snapshot: draft(self._state_of(snapshot)))

    def begin(self, draft: Draft) -> Event | None:
        """Create the first event; None if the record has one already."""
        snapshot = self.read()
        if snapshot.seq:
            return None
        event = self._seal(snapshot, draft)
        try:
            self.store.put_if_absent(event_key(1), event.encode())
        except ConflictError:
            return None
        self._advance(event, self._after(snapshot, event))
        return event

    def events(self, after: int = 0) -> Iterator[Event]:
        """Events with a greater sequence number, oldest first; not checked against each other."""
        for seq, data in self._stored(after):
            yield self._parse(seq, data, None)

    def verify(self) -> Verification:
        """Check every event and the checkpoint; says which one is tampered, missing, moved or cut off."""
        problems: list[Problem] = []
        # Read before the events: the log may grow meanwhile, and must not seem to lack what is anchored.
        anchor = self._anchor()
        stored = dict(self._stored(0))
        strays = [key for key in self.store.list(EVENTS) if not _KEY.fullmatch(key)]
        problems += [Problem(None, "foreign", f"{key} is no event") for key in strays]
        previous, state, states, token = NO_HASH, None, {}, 0
        last = max(stored, default=0)
        hashes: dict[int, str] = {}
        for seq in range(1, last + 1):
            if seq not in stored:
                problems.append(Problem(seq, "missing", f"event {seq} is missing"))
                previous = ""
                continue
            event, found = _inspect(seq, stored[seq])
            problems += found
            if event is None:
                previous = ""
                continue
            if previous and event.previous != previous and not any(p.seq == seq for p in found):
                message = f"event {seq} does not continue event {seq - 1}: one of them was replaced"
                problems.append(Problem(seq, "broken", message))
            if event.token is not None and event.token < token:
                problems.append(
                    Problem(seq, "stale", f"event {seq} has fencing token {event.token} after {token}")
                )
            problems += _verify_evidence(self.store, event)
            token = max(token, event.token or 0)
            state = event.state or state
            states[seq], hashes[seq], previous = state, event.hash, event.hash
        problems += _verify_checkpoint(anchor, last, hashes, states)
        return Verification(len(stored), previous, tuple(problems))

    def _anchor(self) -> bytes | None:
        try:
            return self.store.get(CHECKPOINT).data
        except NotFoundError:
            return None

    def _checkpoint(self) -> Snapshot:
        try:
            stored = self.store.get(CHECKPOINT)
        except NotFoundError:
            return Snapshot(0, NO_HASH, None, None)
        try:
            found = Checkpoint.model_validate_json(stored.data)
        except ValidationError:
            raise CorruptRecordError(
                f"{CHECKPOINT} in {self.store.url} is not a checkpoint (check all: infra.record verify)"
            ) from None
        return Snapshot(found.head.seq, found.head.hash, found.state, stored.version)

    def _append(self, draft: Callable[[Snapshot], Draft]) -> Event:
        deadline, pause = time.monotonic() + _BUSY_AFTER, _FIRST_PAUSE
        while True:
            snapshot = self.read()
            event = self._seal(snapshot, draft(snapshot))
            try:
                self.store.put_if_absent(event_key(event.seq), event.encode())
            except ConflictError:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        f"store {self.store.url}: other writers were first for {_BUSY_AFTER:.0f} s"
                    ) from None
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self._advance(event, self._after(snapshot, event))
            return event

    def _seal(self, snapshot: Snapshot, draft: Draft) -> Event:
        return Event.seal(
            {
                **vars(draft),
                "seq": snapshot.seq + 1,
                "id": uuid.uuid4().hex,
                "at": now(),
                "who": draft.who or process.operator(),
                "host": socket.gethostname(),
                "previous": snapshot.hash,
            }
        )

    def _after(self, snapshot: Snapshot, event: Event) -> Snapshot:
        return Snapshot(event.seq, event.hash, event.state or snapshot.state, snapshot.checkpoint)

    def _advance(self, event: Event, snapshot: Snapshot) -> None:
        """Move the checkpoint to an event that was written; the event counts whether this succeeds or not."""
        try:
            while not self._move(snapshot):
                if self._checkpoint().seq >= event.seq:
                    return
                snapshot = self.read()
        except (StoreUnavailableError, CorruptRecordError) as error:
            _log.warning("event %d is written, its checkpoint is not yet: %s", event.seq, error)

    def _move(self, snapshot: Snapshot) -> bool:
        """Write the checkpoint of a snapshot; False if it is no longer the one that was read."""
        data = Checkpoint(
            head=Head(seq=snapshot.seq, hash=snapshot.hash), state=self._state_of(snapshot)
        ).encode()
        try:
            if snapshot.checkpoint is None:
                self.store.put_if_absent(CHECKPOINT, data)
            else:
                self.store.put_if_match(CHECKPOINT, data, snapshot.checkpoint)
        except ConflictError:
            return False
        return True

    def _state_of(self, snapshot: Snapshot) -> State:
        if snapshot.state is None:
            raise NotBootstrappedError(
                f"the record in {self.store.url} is empty: the first site play bootstraps it"
            )
        return snapshot.state

    def _parse(self, seq: int, data: bytes, previous: str | None) -> Event:
        event, problems = _inspect(seq, data)
        if event is not None and previous is not None and event.previous != previous:
            problems.append(Problem(seq, "broken", f"event {seq} does not continue event {seq - 1}"))
        if event is None or problems:
            message = "; ".join(problem.message for problem in problems)
            raise CorruptRecordError(f"{self.store.url}: {message} (check all: infra.record verify)")
        return event

    def _stored(self, after: int) -> Iterator[tuple[int, bytes]]:
        numbers = (int(match[1]) for key in self.store.list(EVENTS) if (match := _KEY.fullmatch(key)))
        wanted = [seq for seq in numbers if seq > after]
        with ThreadPoolExecutor(_READERS) as readers:
            yield from zip(
                wanted, readers.map(lambda seq: self.store.get(event_key(seq)).data, wanted), strict=True
            )


def _inspect(seq: int, data: bytes) -> tuple[Event | None, list[Problem]]:
    """An event by itself: is it one, is it the one with this number, does its hash fit, byte by byte."""
    try:
        document = json.loads(data)
        event = Event.model_validate(document)
    except ValueError:
        return None, [Problem(seq, "tampered", f"event {seq} is not an event any more")]
    if event.seq != seq:
        return event, [Problem(seq, "moved", f"event {event.seq} stands in the place of event {seq}")]
    if canonical(document) != data or digest_of(document) != event.hash:
        return event, [Problem(seq, "tampered", f"event {seq} was changed: its hash does not fit")]
    return event, []


def _verify_evidence(store: Store, event: Event) -> Iterator[Problem]:
    for reference in evidence.named_by(event):
        try:
            evidence.get(store, reference)
        except CorruptRecordError as error:
            yield Problem(event.seq, "evidence", f"event {event.seq}: {error}")


def _verify_checkpoint(
    data: bytes | None, last: int, hashes: dict[int, str], states: dict[int, State | None]
) -> Iterator[Problem]:
    if data is None:
        if last:
            yield Problem(None, "checkpoint", f"{CHECKPOINT} is missing: the end of the log is not anchored")
        return
    try:
        checkpoint = Checkpoint.model_validate_json(data)
    except ValidationError:
        yield Problem(None, "checkpoint", f"{CHECKPOINT} is not a checkpoint")
        return
    head = checkpoint.head
    if head.seq > last:
        yield Problem(
            head.seq, "missing", f"events {last + 1} to {head.seq} are missing at the end of the log"
        )
    elif head.seq in hashes and hashes[head.seq] != head.hash:
        yield Problem(head.seq, "tampered", f"event {head.seq} is not the one that {CHECKPOINT} anchors")
    elif head.seq in states and states[head.seq] != checkpoint.state:
        yield Problem(None, "checkpoint", f"{CHECKPOINT} holds another state than event {head.seq}")
