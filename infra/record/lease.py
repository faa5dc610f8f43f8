"""The lock as a lease with heartbeat and fencing token (design, rule 4; DEP-7).

Taking, releasing and every change under the lease are events of the one log, each made of the state before
it: a writer whose token is no longer the last one given is refused at that very event, however long it was
stopped. Heartbeats go to `lease.json` with conditional writes, so that the log stays short; one that comes
after the lease's end is an event too, so that it and a taking at the same moment can't both succeed.

Clocks: the holder writes when its lease ends by its own clock; others believe it ended `CLOCK_SKEW` later by
theirs, and the holder itself stops that much earlier. Hosts keep time by NTP; a clock that is wrong by more
can end a living lease early, which costs its holder the operation, but the record stays right: tokens decide.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from pydantic import Field, ValidationError

from infra.record import process
from infra.record.errors import (
    ConflictError,
    LeaseLostError,
    NotFoundError,
    RecordError,
    StoreError,
)
from infra.record.log import Draft, Log
from infra.record.model import Event, Lock, Model, Result, State, Utc, canonical, now
from infra.record.store import Stored

OBJECT = "lease.json"
CLOCK_SKEW = timedelta(seconds=3)
"""Difference between two clocks that is allowed for."""

DEFAULT_TTL = 30.0
SHORTEST_TTL = 4 * CLOCK_SKEW.total_seconds()
_BEATS_PER_TTL = 4
_TRIES = 20

_log = logging.getLogger(__name__)


class Beat(Model):
    """`lease.json`: until when the holder of `token` is believed to live."""

    token: int = Field(ge=1)
    beat: int = Field(ge=1)
    expires_at: Utc


def ends_at(log: Log, lock: Lock) -> datetime:
    """When a lease ends by its holder's clock, if it is not renewed."""
    first = lock.acquired_at + timedelta(seconds=lock.ttl)
    found = _read(log)[0]
    return max(first, found.expires_at) if found is not None and found.token == lock.token else first


def is_over(log: Log, lock: Lock) -> bool:
    """Whether a lease is over: its time is up, or its holder's process is seen dead from here."""
    if process.is_dead(lock.holder.process, lock.holder.host):
        return True
    return now() > ends_at(log, lock) + CLOCK_SKEW


def _elapsed() -> float:
    """Seconds that passed on this machine, those that it slept included: leases end meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _read(log: Log) -> tuple[Beat | None, Stored | None]:
    try:
        stored = log.store.get(OBJECT)
    except NotFoundError:
        return None, None
    try:
        return Beat.model_validate_json(stored.data), stored
    except ValidationError:
        # A living holder's next heartbeat mends it; it must not keep a kill switch out.
        _log.warning("%s in %s is not a lease, ignored", OBJECT, log.store.url)
        return None, stored


class Lease:
    """A held lease. All writes of an operation go through it; every one is refused once another holds it.

    As a context manager it renews itself in a thread and is released at the end.
    """

    def __init__(self, log: Log, lock: Lock) -> None:
        self._record_log = log
        self._lock = lock
        self._lost: LeaseLostError | None = None
        self._valid_until = 0.0
        self._beats = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> int:
        """Fencing token: greater than that of every earlier holder."""
        return self._lock.token

    @property
    def operation_id(self) -> str:
        """Id of the operation that holds it."""
        return self._lock.holder.operation_id

    @property
    def process(self) -> str | None:
        """The process that lives as long as the operation, as `infra.record.process` names it."""
        return self._lock.holder.process

    def renew(self) -> None:
        """Heartbeat.

        Raises:
            LeaseLostError: another operation has it, or it was released.
            StoreUnavailableError: the store does not answer; the lease may still be held.
        """
        started = _elapsed()
        first = self._lock.acquired_at + timedelta(seconds=self._lock.ttl)
        for _ in range(_TRIES):
            self._refuse_unless_held(self._record_log.state())
            beat, stored = _read(self._record_log)
            if beat is not None and beat.token > self.token:
                raise self._lose(f"token {beat.token} was given after {self.token}")
            number = beat.beat + 1 if beat is not None else 1
            fresh = Beat(token=self.token, beat=number, expires_at=now() + timedelta(seconds=self._lock.ttl))
            data = canonical(fresh.model_dump(mode="json"))
            try:
                if stored is None:
                    self._record_log.store.put_if_absent(OBJECT, data)
                else:
                    self._record_log.store.put_if_match(OBJECT, data, stored.version)
            except ConflictError:
                continue
            if now() > (max(first, beat.expires_at) if beat and beat.token == self.token else first):
                # Somebody may have judged it over before this heartbeat, and be about to take it. Both go
                # through the log, where one of them is second: the other judges anew, or this is lost.
                self._record_log.append(self._late)
            self._valid_until = started + self._lock.ttl - CLOCK_SKEW.total_seconds()
            self._beats += 1
            return
        raise self._lose(f"{OBJECT} is being changed by others all the time")

    def check(self) -> None:
        """Return if the lease is certainly held; call it before every step with effects outside the record.

        Raises:
            LeaseLostError: it is not held, or that can't be known.
        """
        if self._lost is not None:
            raise self._lost
        if _elapsed() > self._valid_until:
            try:
                self.renew()
            except StoreError as error:
                raise self._lose(f"it could not be renewed in time: {error}") from error
            return
        try:
            self._refuse_unless_held(self._record_log.state())
        except StoreError as error:
            _log.warning("lease %d not looked at, it is held until its time is up: %s", self.token, error)

    def update(
        self,
        action: str,
        change: Callable[[State], State],
        *,
        result: Result = Result.OK,
        digest: str | None = None,
        duration: float | None = None,
        why: str = "",
        details: dict[str, Any] | None = None,
    ) -> Event:
        """Change the state and log it, at once; `change` is called again when another writer was first.

        Raises:
            LeaseLostError: another operation has the lease; nothing was written.
        """

        def draft(state: State) -> Draft:
            self._refuse_unless_held(state)
            changed = change(state)
            if (changed.lock, changed.fencing_token) != (state.lock, state.fencing_token):
                raise ValueError("a change must leave lock and fencing_token alone")
            return self._draft(
                action,
                state=None if changed == state else changed,
                result=result,
                digest=digest,
                duration=duration,
                why=why,
                details=details or {},
            )

        return self._record_log.append(draft)

    def log(
        self,
        action: str,
        *,
        result: Result = Result.OK,
        digest: str | None = None,
        duration: float | None = None,
        why: str = "",
        details: dict[str, Any] | None = None,
    ) -> Event:
        """Log something that leaves the state as it is."""
        return self.update(
            action,
            lambda state: state,
            result=result,
            digest=digest,
            duration=duration,
            why=why,
            details=details,
        )

    def release(self, result: Result = Result.OK) -> None:
        """Give the lease back; nothing happens if it is not held any more."""

        def draft(state: State) -> Draft:
            self._refuse_unless_held(state)
            duration = max(0.0, (now() - self._lock.acquired_at).total_seconds())
            return self._draft(
                "lease.release", state=state.changed(lock=None), result=result, duration=duration
            )

        try:
            self._record_log.append(draft)
        except LeaseLostError as error:
            _log.warning("%s", error)

    @contextmanager
    def heartbeat(self) -> Iterator[Self]:
        """Renew in a thread while the block runs."""
        self._stop.clear()
        self.renew()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{self.token}", daemon=True)
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def __enter__(self) -> Self:
        self._running = self.heartbeat()
        return self._running.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.__exit__(None, None, None)
        if error is None:
            self.check()
            self.release()
            return
        try:
            self.release(Result.FAILED)
        except RecordError as second:
            _log.warning("the lease was not released and will expire: %s", second)

    def _beat(self) -> None:
        pause = self._lock.ttl / _BEATS_PER_TTL
        while not self._stop.wait(pause):
            try:
                self.renew()
            except LeaseLostError as error:
                _log.error("%s", error)
                return
            except RecordError as error:
                _log.warning("lease %d not renewed, trying again: %s", self.token, error)

    def _late(self, state: State) -> Draft:
        self._refuse_unless_held(state)
        return self._draft("lease.renew")

    def _draft(self, action: str, **fields: Any) -> Draft:
        holder = self._lock.holder
        return Draft(
            action=action, who=holder.who, operation_id=holder.operation_id, token=self.token, **fields
        )

    def _refuse_unless_held(self, state: State) -> None:
        if state.lock is not None and state.lock.token == self.token:
            return
        if state.lock is None:
            raise self._lose("it was released")
        holder = state.lock.holder
        raise self._lose(
            f"{holder.who} took it for {holder.operation} on {holder.host}, token {state.lock.token}"
        )

    def _lose(self, reason: str) -> LeaseLostError:
        holder = self._lock.holder
        self._lost = LeaseLostError(
            f"{holder.operation} ({holder.operation_id}) no longer holds the lease with token {self.token}:"
            f" {reason}"
        )
        return self._lost
