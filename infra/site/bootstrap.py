"""Bootstraps what procedures own afterwards: the record and the public DNS record (design, rule 2)."""

from __future__ import annotations

from infra.dns.client import DnsError, ensure_public_record, open_client, secret_of
from infra.outputs.model import StackOutputs
from infra.record import Lease, Record, RecordError
from infra.site.runtime import (
    BOOTSTRAPPER,
    first_active,
    first_release,
    first_state,
    first_switches,
)
from infra.site.secrets import SecretsError, open_resolver


class BootstrapError(Exception):
    """Bootstrap is not possible; the message says why."""


def bootstrap_record(record: Record, outputs: StackOutputs, *, check: bool) -> list[str]:
    """Write the first state where there is none, unless `check`; needs no lease.

    Returns what was, or would be, written; raises BootstrapError.
    """
    try:
        if record.is_bootstrapped():
            return []
        first_state(outputs)
        if not check:
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
    return ["record"]


def bootstrap_hosts(record: Record, outputs: StackOutputs, lease: Lease | None) -> list[str]:
    """Add hosts that the record does not know yet; without a `lease` (check mode) only say which.

    Returns their names; raises BootstrapError.
    """
    names = [host.name for host in outputs.hosts]
    try:
        if not record.is_bootstrapped():
            return []
        known = record.state().hosts
        absent = [name for name in names if name not in known]
        if absent and lease is not None:
            lease.update(
                "bootstrap.hosts", lambda state: state.with_new_hosts(names), details={"hosts": absent}
            )
    except RecordError as error:
        raise BootstrapError(str(error)) from error
    return absent


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
