"""The public record at run time: read, made where absent by bootstrap, moved by failover only (DR-2).

Works from the output `settings.dns` of a stack; secrets are given as values, by whoever resolved them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Protocol, assert_never

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update
import httpx

from infra.config.model import CloudflareDns, Dns, Rfc2136Dns
from infra.dns.limits import time_to_live

_TIMEOUT = 10.0
_API = "https://api.cloudflare.com/client/v4"


class DnsError(Exception):
    """The provider refused or did not answer; the message names record and provider, never a key."""


@dataclass(frozen=True)
class PublicRecord:
    """Addresses, sorted, and seconds that a resolver may keep them; no address: there is no record."""

    addresses: tuple[str, ...]
    ttl: int | None = None


class DnsClient(Protocol):
    """Reads and writes A records of a zone."""

    def read(self, name: str) -> PublicRecord:
        """What the provider has of `name`, past every cache."""
        ...

    def create(self, name: str, address: str) -> bool:
        """Make the record; False, and nothing is changed, where there is one already."""
        ...

    def replace(self, name: str, address: str) -> None:
        """Make `address` the only one of `name`."""
        ...


def secret_of(config: Dns) -> str:
    """Reference to the secret that the client of these settings needs."""
    return config.api_token if isinstance(config, CloudflareDns) else config.key_secret


def open_client(config: Dns, secret: str) -> DnsClient:
    """Client for the output `settings.dns`; `secret` is the value that `secret_of` names."""
    match config:
        case Rfc2136Dns():
            return Rfc2136Client(config, secret)
        case CloudflareDns():
            return CloudflareClient(config, secret)
        case _:
            assert_never(config)


def ensure_public_record(client: DnsClient, name: str, address: str) -> bool:
    """Make the record where there is none and say whether that was so; one that is there stays as it is.

    Raises:
        DnsError: if the provider does not confirm that there is a record now.
        ValueError: if `address` is no IPv4 address.
    """
    IPv4Address(address)
    if client.read(name).addresses:
        return False
    made = client.create(name, address)
    if not client.read(name).addresses:
        raise DnsError(f"{name}: the provider took the record but does not answer with it")
    return made


class Rfc2136Client:
    """An authoritative server with TSIG updates."""

    def __init__(self, config: Rfc2136Dns, secret: str) -> None:
        self._config = config
        self._keyring = dns.tsigkeyring.from_text({config.key_name: secret})

    def read(self, name: str) -> PublicRecord:
        """Ask the authoritative server itself."""
        query = dns.message.make_query(name, dns.rdatatype.A)
        answer = self._exchange(query, name)
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise DnsError(self._refused(name, answer.rcode()))
        for rrset in answer.answer:
            if rrset.rdtype == dns.rdatatype.A:
                return PublicRecord(tuple(sorted(item.address for item in rrset)), rrset.ttl)
        return PublicRecord(())

    def create(self, name: str, address: str) -> bool:
        """Add, on the server's condition that there is none: of two at once one wins."""
        update = self._update()
        update.absent(f"{name}.", "A")
        update.add(f"{name}.", self._config.ttl, "A", address)
        code = self._exchange(update, name).rcode()
        if code == dns.rcode.YXRRSET:
            return False
        self._accepted(name, code)
        return True

    def replace(self, name: str, address: str) -> None:
        """Replace in one update."""
        update = self._update()
        update.replace(f"{name}.", self._config.ttl, "A", address)
        self._accepted(name, self._exchange(update, name).rcode())

    def _update(self) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(
            f"{self._config.zone}.", keyring=self._keyring, keyalgorithm=f"{self._config.algorithm}."
        )

    def _exchange(self, message: dns.message.Message, name: str) -> dns.message.Message:
        server = str(self._config.server)
        try:
            return dns.query.tcp(message, server, timeout=_TIMEOUT, port=self._config.port)
        except (dns.exception.DNSException, OSError) as error:
            raise DnsError(f"{name}: no usable answer of {server}: {type(error).__name__}") from error

    def _accepted(self, name: str, code: dns.rcode.Rcode) -> None:
        if code != dns.rcode.NOERROR:
            raise DnsError(self._refused(name, code))

    def _refused(self, name: str, code: dns.rcode.Rcode) -> str:
        return (
            f"{name}: {self._config.server} answered {dns.rcode.to_text(code)} (key {self._config.key_name})"
        )


class CloudflareClient:
    """A zone at Cloudflare; records are never proxied."""

    def __init__(
        self, config: CloudflareDns, token: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._config = config
        self._http = httpx.Client(
            base_url=f"{_API}/zones/{config.zone_id}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT,
            transport=transport,
        )

    def read(self, name: str) -> PublicRecord:
        """Ask the API, which knows a record before its name servers do."""
        found = self._records(name)
        if not found:
            return PublicRecord(())
        return PublicRecord(tuple(sorted(item["content"] for item in found)), found[0]["ttl"])

    def create(self, name: str, address: str) -> bool:
        """Make the record; the API has no condition, so two at once may both write."""
        if self._records(name):
            return False
        self._call("POST", "/dns_records", name, json=self._body(name, address))
        return True

    def replace(self, name: str, address: str) -> None:
        """Change the first record, then take the others away: the name always has an address."""
        found = self._records(name)
        if not found:
            self._call("POST", "/dns_records", name, json=self._body(name, address))
            return
        self._call("PUT", f"/dns_records/{found[0]['id']}", name, json=self._body(name, address))
        for other in found[1:]:
            self._call("DELETE", f"/dns_records/{other['id']}", name)

    def _body(self, name: str, address: str) -> dict[str, Any]:
        return {
            "type": "A",
            "name": name,
            "content": address,
            "ttl": time_to_live(self._config).seconds,
            "proxied": False,
        }

    def _records(self, name: str) -> list[dict[str, Any]]:
        result = self._call("GET", "/dns_records", name, params={"type": "A", "name": name})
        return list(result)

    def _call(self, method: str, path: str, name: str, **arguments: Any) -> Any:
        try:
            response = self._http.request(method, path, **arguments)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DnsError(f"{name}: no usable answer of Cloudflare: {type(error).__name__}") from error
        if response.is_error or not answer.get("success"):
            reasons = "; ".join(str(item.get("message")) for item in answer.get("errors", []))
            raise DnsError(f"{name}: Cloudflare answered {response.status_code}: {reasons}")
        return answer["result"]
