"""What drivers know of an environment: its settings, values in use, and how to reach others."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from infra import local
from infra.config.model import Rfc2136Dns
from infra.outputs.model import StackOutputs
from infra.rotation.issuers.errors import IssuerError
from infra.rotation.issuers.http import TIMEOUT
from infra.rotation.issuers.model import Values
from infra.smoke.client import Names, web
from infra.world import vendors

_ENDPOINTS = {
    "cloudflare": "https://api.cloudflare.com/client/v4",
    "digitalocean": "https://api.digitalocean.com",
    "pagerduty": "https://events.pagerduty.com",
    "slack": "https://slack.com",
    "statuspage": "https://api.statuspage.io",
    "vercel": "https://api.vercel.com",
}


class Web(Protocol):
    """Opens a client; with an `address` it connects there, whatever the name says."""

    def __call__(self, address: str | None = None) -> httpx.Client:
        """The client, to be closed by who asked for it."""
        ...


@dataclass(frozen=True)
class Environment:
    """One environment. `web` opens clients that resolve and trust as it does."""

    outputs: StackOutputs
    secrets: Values = field(repr=False)
    web: Web = field(repr=False)

    @classmethod
    def of(cls, outputs: StackOutputs, secrets: Values, opened: Web | None = None) -> Environment:
        """The environment of these outputs."""
        # It logs URLs, and those of webhooks and of a webhook's verification hold values.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        return cls(outputs, secrets, opened or _web(outputs))

    @property
    def is_local(self) -> bool:
        """Whether vendors are doubles."""
        return self.outputs.domain == local.DOMAIN

    def endpoint(self, vendor: str) -> str:
        """Base URL of a vendor's API that no setting names."""
        return vendors.url(vendor) if self.is_local else _ENDPOINTS[vendor]

    def variable(self, file: str, name: str) -> tuple[str, ...]:
        """Values of a variable in an environment file of the hosts, each once, references unresolved.

        Raises:
            IssuerError: no host has it.
        """
        found = [values[name] for values in self._files(file) if name in values]
        if not found:
            raise IssuerError(f"no host of {self.outputs.environment} has {name} in its {file}")
        return tuple(dict.fromkeys(map(str, found)))

    @property
    def services(self) -> set[str]:
        """Services that every host runs, as Compose names them."""
        projects = self.outputs.projects.values()
        found = [set(project.get("compose", {}).get("services", {})) for project in projects]
        return set.intersection(*found) if found else set()

    def _files(self, file: str) -> list[dict[str, Any]]:
        projects = self.outputs.projects.values()
        return [project.get("env_files", {}).get(file, {}) for project in projects]


def _web(outputs: StackOutputs) -> Web:
    dns = outputs.settings.dns
    nameserver = (str(dns.server), dns.port) if isinstance(dns, Rfc2136Dns) else None
    names = Names(dns.zone, nameserver, [str(each) for each in outputs.settings.resolvers])
    trust = "\n".join(outputs.settings.trust)

    def opened(address: str | None = None) -> httpx.Client:
        return web(names, trust, address=address, timeout=TIMEOUT)

    return opened
