"""Bootstraps what procedures own afterwards: the record and the public DNS record (design, rule 2)."""

from __future__ import annotations

from infra.dns.client import DnsError, ensure_public_record, open_client, secret_of
from infra.outputs.model import StackOutputs
from infra.record import NotBootstrappedError, Record, RecordError
from infra.record.lease import is_over
from infra.record.log import Log
from infra.site.runtime import (
    BOOTSTRAPPER,
    first_active,
    first_release,
    first_state,
    first_switches,
)
from infra.site.secrets import SecretsError, open_resolver


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


def bootstrap_public_record(record: Record, outputs: StackOutputs, stack: str, *, check: bool) -> list[str]:
    """Point the public name at the active host where it points nowhere yet, unless `check`.

    Returns what was, or would be, written; raises BootstrapError.
    """
    dns = outputs.settings.dns
    reference = secret_of(dns)
    try:
        client = open_client(
            dns, open_resolver(outputs.secretstore, stack, outputs.record, [reference])(reference)
        )
        if check:
            return [] if client.read(outputs.domain).addresses else [outputs.domain]
        active = record.state().active_host
        address = next((host.address for host in outputs.hosts if host.name == active), None)
        if address is None:
            raise BootstrapError(
                f"the record names {active} as the active host, which is none of the stack's"
            )
        return [outputs.domain] if ensure_public_record(client, outputs.domain, address) else []
    except (DnsError, SecretsError, RecordError) as error:
        raise BootstrapError(str(error)) from error
