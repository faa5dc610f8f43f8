"""What the definitions of services have to know of the runtime around them; the rest is the renderers'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from infra.config.model import ManagedData
from infra.services import names

REPLICAS_SUFFIX = "-replicas"


class Routing(StrEnum):
    """Whose the proxy is, and where it has its routes from."""

    FILES = "files"
    """Ours, from files."""
    API = "api"
    """Ours, from the cluster's API."""
    FOREIGN = "foreign"
    """The cluster's own."""


@dataclass(frozen=True)
class Platform:
    """A runtime, as services see it. `proxies`: networks whose forwarded headers the login believes."""

    proxies: tuple[str, ...]
    routing: Routing
    namespace: str = ""
    """Of every service that `namespaces` does not name; empty where names need none."""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    managed: ManagedData | None = None
    """The databases, where somebody else runs them."""

    def namespace_of(self, service: str) -> str:
        """Namespace that a service is in."""
        return self.namespaces.get(service, self.namespace)

    def address(self, service: str) -> str:
        """Host name by which services of the main namespace reach another service."""
        namespace = self.namespaces.get(service)
        return f"{service}.{namespace}" if namespace else service

    def replicas(self, service: str) -> str:
        """Host name with an address for each of a service's replicas."""
        if not self.namespace:
            return service
        return f"{service}{REPLICAS_SUFFIX}.{self.namespace_of(service)}"


HOST = Platform(proxies=(f"{names.TRAEFIK_ADDRESS}/32",), routing=Routing.FILES)
"""A host: every service has its plain name, the proxy a fixed address."""
