"""What is checked: one name of an environment, and what must be known to check it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra import local
from infra.config.model import Rfc2136Dns, Traces
from infra.outputs.model import HostOutput, StackOutputs
from infra.paths import REPOSITORY
from infra.record import RecordError, State, Switch, open_record
from infra.secretstore import SecretStore, SecretStoreError, open_store
from infra.world import login


class TargetError(Exception):
    """The environment can't be checked at all; the message says why."""


@dataclass(frozen=True)
class BrowserUser:
    """Somebody whose password may be typed by a program; `secret` names it."""

    email: str
    secret: str


@dataclass(frozen=True)
class Target:
    """One name of an environment; `nameserver` answers for the zone itself, `resolvers` for the rest.

    `client_secret` is a reference.
    """

    stack: str
    name: str
    domain: str
    host: HostOutput
    zone: str
    nameserver: tuple[str, int] | None
    resolvers: tuple[str, ...]
    trust: str
    issuer: str
    client: str
    client_secret: str
    secrets: SecretStore
    user: BrowserUser | None
    trace_container: str | None
    trace_query: Traces | None
    maintenance: bool = False
    """Whether the record says that users get the maintenance answer."""
    off: frozenset[Switch] = frozenset()
    """Switches that the record says are off: what they turn off must say so."""

    @property
    def public(self) -> bool:
        """Whether it is the public name, not a region's."""
        return self.name == self.domain

    @property
    def report(self) -> Path:
        """Where the JSON report goes."""
        name = self.stack if self.public else f"{self.stack}-{self.host.region}"
        return REPOSITORY / "build" / "reports" / f"smoke-{name}.json"


def find_target(outputs: StackOutputs, stack: str, region: str | None = None) -> Target:
    """The public name, served by the active host of the record; or the name of one region.

    Raises:
        TargetError: there is no such region, or record or secrets can't be opened.
    """
    settings = outputs.settings
    try:
        state = open_record(outputs.record).state()
        host = _host(outputs, region, state)
        secrets = open_store(outputs.secretstore, stack, record=outputs.record)
    except (RecordError, SecretStoreError) as error:
        raise TargetError(f"stack {stack}: {error}") from error
    dns = settings.dns
    is_local = outputs.domain == local.DOMAIN
    return Target(
        stack=stack,
        name=f"{region}.{outputs.domain}" if region else outputs.domain,
        domain=outputs.domain,
        host=host,
        zone=dns.zone,
        nameserver=(str(dns.server), dns.port) if isinstance(dns, Rfc2136Dns) else None,
        resolvers=tuple(map(str, settings.resolvers)),
        trust="\n".join(settings.trust),
        issuer=settings.login.issuer,
        client=settings.login.smoke_client_id,
        client_secret=settings.login.smoke_client_secret,
        secrets=secrets,
        user=BrowserUser(login.ALICE.email, f"login-password-{login.ALICE.name}") if is_local else None,
        trace_container=local.TRACES.container if is_local else None,
        trace_query=settings.traces,
        maintenance=state.maintenance.enabled,
        off=frozenset(switch for switch, on in state.switches.items() if not on),
    )


def _host(outputs: StackOutputs, region: str | None, state: State) -> HostOutput:
    if region:
        found = [host for host in outputs.hosts if host.region == region]
        if not found:
            regions = ", ".join(host.region for host in outputs.hosts)
            raise TargetError(f"no region {region!r}; there are: {regions}")
        return found[0]
    active = state.active_host
    for host in outputs.hosts:
        if host.name == active:
            return host
    raise TargetError(f"the record names {active} as the active host, which is none of the stack's")
