"""The environment's record: the one home of what procedures change."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from infra.config.model import RecordConfig
from infra.record import evidence, process
from infra.record import lease as leases
from infra.record.config import open_store
from infra.record.errors import LeaseHeldError, LeaseLostError, LeaseOverError, RecordError
from infra.record.evidence import Evidence
from infra.record.lease import DEFAULT_TTL, SHORTEST_TTL, Lease
from infra.record.log import Draft, Log, Verification
from infra.record.model import Event, Holder, HostState, Lock, Release, Result, State, Switch, now
from infra.record.store import Store

_POLL = 0.5
_RECENT = 100
"""Events that are searched for who took a lease away."""


@dataclass(frozen=True)
class _Claim:
    """By what right a lease that somebody has is taken."""

    take_from: str | None
    take_over: bool
    preempt: bool


class Record:
    """State, log and lease of one environment. Reading needs nothing; changing needs the lease."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._log = Log(store)

    def state(self) -> State:
        """The state as it is now; `NotBootstrappedError` before bootstrap."""
        return self._log.state()

    def is_bootstrapped(self) -> bool:
        """Whether there is a state."""
        return self.last_event() > 0

    def last_event(self) -> int:
        """Sequence number of the last event, 0 before bootstrap."""
        return self._log.read().seq

    def events(self, after: int = 0) -> Iterator[Event]:
        """Events with a greater sequence number than `after`, oldest first."""
        return self._log.events(after)

    def verify(self) -> Verification:
        """Check the whole log and the evidence that it names; see `Verification.problems`."""
        return self._log.verify()

    def put_evidence(self, operation_id: str, name: str, data: bytes) -> Evidence:
        """Save what was seen, once; an event must name what this returns in its details, as `evidence`.

        Raises:
            RecordError: it is too large, or a name can't be part of a key.
        """
        return evidence.put(self.store, operation_id, name, data)

    def evidence(self, reference: Evidence) -> bytes:
        """Read a piece of evidence; `CorruptRecordError` if it is not the one that was saved."""
        return evidence.get(self.store, reference)

    def log(
        self,
        action: str,
        *,
        who: str | None = None,
        operation_id: str | None = None,
        result: Result = Result.OK,
        digest: str | None = None,
        duration: float | None = None,
        why: str = "",
        details: dict[str, Any] | None = None,
    ) -> Event:
        """Log something that changes no state; needs no lease."""
        draft = Draft(
            action,
            who=who,
            operation_id=operation_id,
            result=result,
            digest=digest,
            duration=duration,
            why=why,
            details=details or {},
        )
        return self._log.append(lambda _: draft)

    def bootstrap(
        self,
        *,
        release: Release,
        hosts: Iterable[str],
        switches: Mapping[str, bool],
        active_region: str,
        active_host: str | None = None,
        who: str | None = None,
    ) -> bool:
        """Write the first state where there is none, and add hosts that the record does not know yet.

        Nothing that is there is changed. The active host is the first one unless said otherwise. A new host
        gets the running release in its blue slot.

        Returns:
            Whether anything was written.

        Raises:
            RecordError: what was given makes no valid state; nothing was written.
        """
        names = list(hosts)
        if not names:
            raise RecordError("bootstrap: an environment needs a host")
        try:
            first = State(
                release=release,
                hosts={name: HostState.first(release) for name in names},
                switches={Switch(name): value for name, value in switches.items()},
                active_region=active_region,
                active_host=active_host or names[0],
            )
        except (ValidationError, ValueError) as error:
            raise RecordError(f"bootstrap: {_reason(error)}") from None
        if self._log.begin(Draft("bootstrap", state=first, who=who, digest=release.digest)):
            return True
        if not [name for name in names if name not in self.state().hosts]:
            return False

        def adopt(state: State) -> Draft:
            absent = [name for name in names if name not in state.hosts]
            changed = state.with_new_hosts(absent) if absent else None
            return Draft("bootstrap.hosts", state=changed, who=who, details={"hosts": absent})

        self._log.append(adopt)
        return True

    def acquire(
        self,
        operation: str,
        *,
        operation_id: str | None = None,
        who: str | None = None,
        why: str = "",
        ttl: float = DEFAULT_TTL,
        take_from: str | None = None,
        take_over: bool = False,
        preempt: bool = False,
        wait: float = 0.0,
        waiting: Callable[[str], None] | None = None,
        pid: int | None = None,
    ) -> Lease:
        """Take the lease; the caller renews and releases it.

        Free, it is taken. Over (its time is up, or its process is seen dead from here), the same
        `operation_id` takes it up again; anybody else must name its owner with `take_from`, or `take_over`
        from whomever it was (for operations that only make hosts what the record says). Held by a living
        operation it is refused, unless `preempt` (kill switches and unplanned failover only). `wait` is how
        many seconds to try; `waiting` is told each time why it was not to be had. `pid` is a process that
        lives as long as the operation, if there is one.

        Raises:
            LeaseHeldError: it was not to be had; the message says by whom it is held and how to take it.
            LeaseOverError: the same, and waiting is of no use.
            ValueError: the ttl is too short for the allowed difference of clocks.
        """
        if ttl < SHORTEST_TTL:
            raise ValueError(f"ttl must be at least {SHORTEST_TTL:.0f} s, got {ttl}")
        holder = Holder(
            who=who or process.operator(),
            host=socket.gethostname(),
            process=None if pid is None else process.identify(pid),
            operation=operation,
            operation_id=operation_id or uuid.uuid4().hex,
            why=why,
        )
        deadline = time.monotonic() + wait
        while True:
            try:
                event = self._log.append(
                    lambda state: self._take(state, holder, ttl, _Claim(take_from, take_over, preempt))
                )
            except LeaseOverError:
                raise
            except LeaseHeldError as error:
                if time.monotonic() >= deadline:
                    raise
                if waiting is not None:
                    waiting(str(error))
                time.sleep(min(_POLL, max(0.0, deadline - time.monotonic())))
                continue
            if event.state is None or event.state.lock is None:
                raise AssertionError("taking the lease left no lock")
            lease = Lease(self._log, event.state.lock)
            lease.renew()
            return lease

    def lease(
        self,
        operation: str,
        *,
        operation_id: str | None = None,
        who: str | None = None,
        why: str = "",
        ttl: float = DEFAULT_TTL,
        take_from: str | None = None,
        preempt: bool = False,
        wait: float = 0.0,
    ) -> Lease:
        """Take the lease for this process; as a context manager it is renewed and released. See `acquire`."""
        return self.acquire(
            operation,
            operation_id=operation_id,
            who=who,
            why=why,
            ttl=ttl,
            take_from=take_from,
            preempt=preempt,
            wait=wait,
            pid=os.getpid(),
        )

    def living_holder(self) -> Lock | None:
        """The lease that somebody holds at this moment; None where it is free or over."""
        lock = self.state().lock
        return None if lock is None or leases.is_over(self._log, lock) else lock

    def held_lease(self, token: int) -> Lease:
        """The lease with this token, for another process of the operation that holds it.

        Raises:
            LeaseLostError: it is not held any more.
        """
        lock = self.state().lock
        if lock is None:
            raise LeaseLostError(
                f"nobody holds the lease with token {token} any more: {self._how_it_ended(token)}"
            )
        if lock.token != token:
            other = lock.holder
            raise LeaseLostError(
                f"the lease with token {token} is lost: {other.who} took it for {other.operation} on"
                f" {other.host}, token {lock.token}"
            )
        return Lease(self._log, lock)

    def _how_it_ended(self, token: int) -> str:
        """What became of a lease that is free now: whoever took it away may have given it back since."""
        for event in self.events(after=max(0, self.last_event() - _RECENT)):
            if event.action in ("lease.take", "lease.preempt") and event.details.get("token") == token:
                return f"{event.who} took it for {event.details.get('operation')}, and gave it back"
        return "it was released"

    def _take(self, state: State, holder: Holder, ttl: float, claim: _Claim) -> Draft:
        action, details = "lease.acquire", {}
        if state.lock is not None:
            action = self._how_to_take(state.lock, holder, claim)
            details = {"from": state.lock.holder.model_dump(mode="json"), "token": state.lock.token}
        token = state.fencing_token + 1
        lock = Lock(token=token, holder=holder, acquired_at=now(), ttl=ttl)
        return Draft(
            action,
            state=state.changed(lock=lock, fencing_token=token),
            who=holder.who,
            operation_id=holder.operation_id,
            result=Result.STARTED,
            why=holder.why,
            token=token,
            details={"operation": holder.operation, **details},
        )

    def _how_to_take(self, lock: Lock, holder: Holder, claim: _Claim) -> str:
        other = lock.holder
        over = leases.is_over(self._log, lock)
        said = (
            f"{other.who} on {other.host} holds the lease for {other.operation} ({other.operation_id}),"
            f" since {lock.acquired_at:%Y-%m-%d %H:%M:%S} UTC{f': {other.why}' if other.why else ''}"
        )
        if over and other.operation_id == holder.operation_id:
            return "lease.resume"
        if over and (claim.take_over or claim.take_from == other.who):
            return "lease.take"
        if claim.preempt:
            return "lease.preempt"
        if over:
            raise LeaseOverError(f"{said}; it is over: take it by naming its owner (take_from={other.who!r})")
        ends = leases.ends_at(self._log, lock)
        raise LeaseHeldError(f"{said}; it is renewed and lasts until {ends:%H:%M:%S} UTC at least")


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
    return str(error)


def open_record(config: RecordConfig | Mapping[str, Any]) -> Record:
    """Open the record that a stack's output `record` names; nothing is read yet.

    Raises:
        ConfigError: the configuration is not usable.
    """
    return Record(open_store(config))
