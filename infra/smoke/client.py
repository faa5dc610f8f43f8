"""HTTP as a user's program speaks it, but resolved at a given name server and with given trust."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import dns.exception
import dns.resolver
import httpx

_TIMEOUT = 15.0
_DNS_LIFETIME = 5.0


class UnknownNameError(Exception):
    """A name does not resolve."""


class Names:
    """Addresses of names, past every cache: those of `zone` at its own server, others at `resolvers`."""

    def __init__(self, zone: str, nameserver: tuple[str, int] | None, resolvers: Sequence[str]) -> None:
        self._zone = zone
        self._nameserver = nameserver
        self._resolvers = list(resolvers)
        self._known: dict[str, str] = {}

    def lookup(self, name: str) -> tuple[list[str], int]:
        """Sorted IPv4 addresses and their time to live in seconds; raises UnknownNameError."""
        resolver = dns.resolver.Resolver(configure=not self._resolvers)
        resolver.lifetime = _DNS_LIFETIME
        if self._nameserver and (name == self._zone or name.endswith(f".{self._zone}")):
            resolver.nameservers, resolver.port = [self._nameserver[0]], self._nameserver[1]
        elif self._resolvers:
            resolver.nameservers = self._resolvers
        try:
            answer = resolver.resolve(f"{name}.", "A", search=False)
        except dns.exception.DNSException as error:
            raise UnknownNameError(f"{name}: {error}") from error
        return sorted(item.address for item in answer), int(answer.rrset.ttl if answer.rrset else 0)

    def address(self, name: str) -> str:
        """First address of a name, asked once."""
        if name not in self._known:
            self._known[name] = self.lookup(name)[0][0]
        return self._known[name]


class ResolvedTransport(httpx.BaseTransport):
    """Connects to the address that `names` gives; Host, SNI and the certificate's name stay the URL's."""

    def __init__(self, names: Names, context: ssl.SSLContext, address: str | None = None) -> None:
        self._names = names
        self._context = context
        self._address = address
        self._transports: dict[str, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        host = request.url.host
        # Connections are kept by address: without a pool for each name, one name could use another's.
        inner = self._transports.setdefault(host, httpx.HTTPTransport(verify=self._context, http2=False))
        address = self._address or self._names.address(host)
        return inner.handle_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
        )

    def close(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            transport.close()


def trusting(trust: str) -> ssl.SSLContext:
    """TLS that trusts the system's authorities and those in PEM."""
    context = ssl.create_default_context()
    if trust.strip():
        context.load_verify_locations(cadata=trust)
    return context


def web(names: Names, trust: str, *, address: str | None = None, **options: Any) -> httpx.Client:
    """A client; `address` connects to one host whatever the name says."""
    transport = ResolvedTransport(names, trusting(trust), address)
    return httpx.Client(transport=transport, **{"timeout": _TIMEOUT, **options})
