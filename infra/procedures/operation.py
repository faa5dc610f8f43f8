"""One run of a procedure: it begins with the lease and ends with an event that says how (design, rule 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.record import Event, Evidence, Lease, LeaseLostError, Record, RecordError, Result
from infra.record.model import Name, Text, Utc, canonical, now

CHECK_TOKEN = 0
"""Token of an operation that runs in check mode and holds no lease."""

_ID_LENGTH = 12


class ProcedureError(Exception):
    """A procedure is not possible, or must not go on; the message says why and what to do."""


class Operation(BaseModel):
    """The fact `icupa_operation`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    id: Text
    token: int
    started_at: Utc
    why: str = ""

    @property
    def check(self) -> bool:
        """Whether it holds no lease and must write nothing."""
        return self.token == CHECK_TOKEN

    def took(self) -> float:
        """Seconds since it began."""
        return max(0.0, (now() - self.started_at).total_seconds())

    @classmethod
    def parse(cls, fact: Mapping[str, Any]) -> Operation:
        """Check what came through Ansible's variables; raises ProcedureError."""
        try:
            return cls.model_validate(dict(fact))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ProcedureError(f"icupa_operation is not an operation ({wrong})") from None


class Failure(BaseModel):
    """The fact `icupa_failure`: the first thing that went wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    message: str
    at: Utc
    evidence: tuple[Evidence, ...] = ()


def operation_id(name: str, stack: str, parameters: Mapping[str, Any]) -> str:
    """Id of an operation: the same command has the same one, and so takes up again what was killed."""
    digest = hashlib.sha256(canonical([name, stack, dict(parameters)])).hexdigest()
    return f"{name}-{digest[:_ID_LENGTH]}"


def begin(
    record: Record,
    name: str,
    *,
    stack: str,
    parameters: Mapping[str, Any],
    pid: int,
    why: str = "",
    wait: float = 0.0,
    take_from: str | None = None,
    take_over: bool = False,
    preempt: bool = False,
    waiting: Callable[[str], None] | None = None,
) -> Operation:
    """Take the lease for the process `pid` and log the beginning.

    Raises:
        LeaseHeldError: somebody else has it, and still had it after `wait` seconds.
    """
    identity = operation_id(name, stack, parameters)
    lease = record.acquire(
        name,
        operation_id=identity,
        why=why,
        take_from=take_from,
        take_over=take_over,
        preempt=preempt,
        wait=wait,
        waiting=waiting,
        pid=pid,
    )
    event = lease.log(
        f"{name}.begin", result=Result.STARTED, why=why, details={"parameters": dict(parameters)}
    )
    return Operation(name=name, id=identity, token=lease.token, started_at=event.at, why=why)


def fail(
    record: Record, operation: Operation, step: str, message: str, evidence: Mapping[str, bytes]
) -> Failure:
    """Save the evidence and log the failure; where the lease is lost, without it.

    A piece that can't be saved is named in the event: it must not keep a procedure from undoing what it did.
    """
    saved, unsaved = [], {}
    for name, data in evidence.items():
        try:
            saved.append(record.put_evidence(operation.id, name, data))
        except RecordError as error:
            unsaved[name] = str(error)
    details: dict[str, Any] = {"step": step, "evidence": [each.model_dump(mode="json") for each in saved]}
    if unsaved:
        details["unsaved"] = unsaved
    event = _say(
        record, operation, f"{operation.name}.failed", result=Result.FAILED, why=message, details=details
    )
    return Failure(step=step, message=message, at=event, evidence=tuple(saved))


def end(
    record: Record, operation: Operation, result: Result, message: str, details: Mapping[str, Any]
) -> Result:
    """Log the end and give the lease back; where it was lost the result is uncertain, and that is logged."""
    try:
        lease = record.held_lease(operation.token)
        lease.log(
            f"{operation.name}.end",
            result=result,
            why=message,
            duration=operation.took(),
            digest=details.get("digest"),
            details=dict(details),
        )
        lease.release(result)
    except LeaseLostError as error:
        _say(
            record,
            operation,
            f"{operation.name}.end",
            result=Result.UNCERTAIN,
            why=f"{error}; {message}" if message else str(error),
            details={**details, "intended": result.value},
        )
        return Result.UNCERTAIN
    return result


def has_changed(events: Iterable[Event], operation: Operation) -> bool:
    """Whether an operation has changed the record's state, in this run or in one that was killed before.

    What was changed before it last said how it ended is not counted. `events` are oldest first.
    """
    changed = False
    for event in events:
        if event.operation_id != operation.id or event.action.startswith("lease."):
            continue
        changed = event.action != f"{operation.name}.end" and (changed or event.state is not None)
    return changed


def held(record: Record, operation: Operation) -> Lease:
    """The operation's lease, certainly held at this moment.

    Raises:
        LeaseLostError: another operation has it, or it was released.
    """
    lease = record.held_lease(operation.token)
    lease.check()
    return lease


def _say(
    record: Record, operation: Operation, action: str, *, result: Result, why: str, details: Mapping[str, Any]
) -> datetime:
    try:
        lease = record.held_lease(operation.token)
        event = lease.log(action, result=result, why=why, details=dict(details))
    except LeaseLostError:
        event = record.log(
            action,
            operation_id=operation.id,
            result=result,
            why=why,
            duration=operation.took(),
            details={**details, "lease": "lost"},
        )
    return event.at
