"""Bootstraps what procedures own afterwards: the record and the public DNS record (design, rule 2)."""

from __future__ import annotations

from infra.record import NotBootstrappedError, Record, RecordError
from infra.record.lease import is_over
from infra.record.log import Log
from infra.site.outputs import StackOutputs
from infra.site.runtime import (
    BOOTSTRAPPER,
    first_active,
    first_release,
    first_state,
    first_switches,
)


class BootstrapError(Exception):
    """Bootstrap is not possible, or somebody is at work on the environment; the message says who."""


def refuse_while_locked(record: Record) -> None:
    """Raise BootstrapError while a living operation holds the lease: its hosts are in between two states."""
    lock = record.state().lock
    if lock is None or is_over(Log(record.store), lock):
        return
    holder = lock.holder
    why = f" ({holder.why})" if holder.why else ""
    raise BootstrapError(
        f"{holder.who} on {holder.host} is at work on this environment: {holder.operation}{why}"
        f" since {lock.acquired_at:%Y-%m-%d %H:%M:%S} UTC; wait for its end"
    )


def missing_from_record(record: Record, outputs: StackOutputs) -> list[str]:
    """What bootstrap would write: `record`, or the hosts that the record does not know yet."""
    try:
        known = record.state().hosts
    except NotBootstrappedError:
        first_state(outputs)
        return ["record"]
    return [host.name for host in outputs.hosts if host.name not in known]


def bootstrap_record(record: Record, outputs: StackOutputs, *, check: bool) -> list[str]:
    """Write what is missing, unless `check`; returns it. Raises BootstrapError."""
    try:
        missing = missing_from_record(record, outputs)
        if missing != ["record"]:
            refuse_while_locked(record)
        if missing and not check:
            active = first_active(outputs)
            record.bootstrap(
                release=first_release(outputs),
                hosts=[host.name for host in outputs.hosts],
                switches=first_switches(outputs),
                active_region=active.region,
                active_host=active.name,
                who=BOOTSTRAPPER,
            )
    except RecordError as error:
        raise BootstrapError(str(error)) from error
    return missing
