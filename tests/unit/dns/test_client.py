"""The public record, against a server that speaks RFC 2136 with TSIG and against Cloudflare's API."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.tsigkeyring
import dns.update
import httpx
import pytest
from dns.rdtypes.ANY.TSIG import TSIG

from infra.config.load import load_file
from infra.config.model import CloudflareDns, Dns
from infra.dns.client import (
    CloudflareClient,
    DnsError,
    PublicRecord,
    Rfc2136Client,
    ensure_public_record,
    open_client,
    secret_of,
)
from infra.dns.limits import time_to_live
from infra.dns.names import certificate_names, delegation

NAME = "agents.local.icupa.dev"
TOKEN = "token"
KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="
OTHER_KEY = "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItb3Q="


class NameServer(socketserver.ThreadingTCPServer):
    """Authoritative for one zone in memory: A records, updates by one key, prerequisites."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.keyring = dns.tsigkeyring.from_text({"failover": KEY})
        self.records: dict[str, tuple[int, list[str]]] = {}
        self.updates = 0


class Exchange(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, NameServer)
        (length,) = struct.unpack("!H", self.request.recv(2))
        wire = self.request.recv(length)
        try:
            query = dns.message.from_wire(wire, keyring=server.keyring)
        except dns.tsig.BadSignature:
            query = dns.message.from_wire(wire, keyring=False, ignore_trailing=True)
            response = dns.message.make_response(query)
            response.tsig = bad_signature(query)
            self._send(response, dns.rcode.NOTAUTH)
            return
        response = dns.message.make_response(query)
        if isinstance(query, dns.update.UpdateMessage):
            self._send(response, self._update(server, query))
            return
        name = query.question[0].name.to_text(omit_final_dot=True)
        if name not in server.records:
            self._send(response, dns.rcode.NXDOMAIN)
            return
        ttl, addresses = server.records[name]
        response.answer.append(dns.rrset.from_text_list(f"{name}.", ttl, "IN", "A", addresses))
        self._send(response, dns.rcode.NOERROR)

    def _update(self, server: NameServer, update: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        if not update.had_tsig:
            return dns.rcode.REFUSED
        for rrset in update.prerequisite:
            absent = dns.rdataclass.NONE in (rrset.deleting, rrset.rdclass)
            if absent and rrset.name.to_text(omit_final_dot=True) in server.records:
                return dns.rcode.YXRRSET
        for rrset in update.update:
            name = rrset.name.to_text(omit_final_dot=True)
            if rrset.deleting is not None or not len(rrset):
                server.records.pop(name, None)
                continue
            _, addresses = server.records.get(name, (0, []))
            server.records[name] = (rrset.ttl, [*addresses, *(item.address for item in rrset)])
        server.updates += 1
        return dns.rcode.NOERROR

    def _send(self, response: dns.message.Message, code: dns.rcode.Rcode) -> None:
        response.set_rcode(code)
        wire = response.to_wire()
        self.request.sendall(struct.pack("!H", len(wire)) + wire)


def bad_signature(query: dns.message.Message) -> dns.rrset.RRset:
    """What an answer says of a query whose signature is wrong, itself not signed (RFC 8945, 5.2)."""
    assert query.tsig
    signed = query.tsig[0]
    assert isinstance(signed, TSIG)
    return dns.rrset.from_rdata(
        query.tsig.name, 0, signed.replace(mac=b"", error=dns.rcode.BADSIG, original_id=query.id)
    )


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def settings(server: NameServer) -> Dns:
    place = {"server": IPv4Address("127.0.0.1"), "port": server.server_address[1]}
    return load_file("local").dns.model_copy(update=place)


def test_record_is_made_where_there_is_none(server: NameServer) -> None:
    client = open_client(settings(server), KEY)
    assert isinstance(client, Rfc2136Client)
    assert client.read(NAME) == PublicRecord(())
    assert ensure_public_record(client, NAME, "10.80.0.20") is True
    assert client.read(NAME) == PublicRecord(("10.80.0.20",), 15)


def test_record_that_is_there_stays(server: NameServer) -> None:
    server.records[NAME] = (15, ["10.80.0.30"])
    client = open_client(settings(server), KEY)
    assert ensure_public_record(client, NAME, "10.80.0.20") is False
    assert client.create(NAME, "10.80.0.20") is False
    assert client.read(NAME).addresses == ("10.80.0.30",)
    assert server.updates == 0


def test_record_is_moved_in_one_update(server: NameServer) -> None:
    server.records[NAME] = (15, ["10.80.0.20", "10.80.0.21"])
    client = open_client(settings(server), KEY)
    client.replace(NAME, "10.80.0.30")
    assert client.read(NAME) == PublicRecord(("10.80.0.30",), 15)
    assert server.updates == 1


def test_wrong_key_changes_nothing_and_is_not_repeated(server: NameServer) -> None:
    client = open_client(settings(server), OTHER_KEY)
    with pytest.raises(DnsError, match=NAME) as caught:
        client.create(NAME, "10.80.0.20")
    assert OTHER_KEY not in str(caught.value)
    assert server.records == {}


def test_server_that_is_away_is_an_error(server: NameServer) -> None:
    values = settings(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(DnsError, match=r"no usable answer of 127\.0\.0\.1"):
        open_client(values, KEY).read(NAME)


def test_address_is_checked_first(server: NameServer) -> None:
    with pytest.raises(ValueError, match="not-an-address"):
        ensure_public_record(open_client(settings(server), KEY), NAME, "not-an-address")
    assert server.updates == 0


class Cloudflare:
    """Records of a zone behind the API's shape."""

    def __init__(self, *contents: str) -> None:
        self.records = [
            {"id": f"id-{index}", "type": "A", "name": "agents.icupa.dev", "content": content, "ttl": 60}
            for index, content in enumerate(contents)
        ]
        self.written: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._answer(403, errors=[{"message": "Authentication error"}])
        assert request.url.path.startswith("/client/v4/zones/0123456789abcdef0123456789abcdef/dns_records")
        if request.method == "GET":
            found = [item for item in self.records if item["name"] == request.url.params["name"]]
            return self._answer(200, result=found)
        identifier = request.url.path.rsplit("/", 1)[1]
        if request.method == "DELETE":
            self.records = [item for item in self.records if item["id"] != identifier]
            return self._answer(200, result={"id": identifier})
        body = json.loads(request.content)
        self.written.append((request.method, body))
        kept = [item for item in self.records if item["id"] != identifier]
        self.records = [{**body, "id": "new"}, *kept]
        return self._answer(200, result=self.records[0])

    @staticmethod
    def _answer(status: int, **content: Any) -> httpx.Response:
        return httpx.Response(status, json={"success": status < 400, **content})


def cloudflare(api: Cloudflare, token: str = TOKEN) -> CloudflareClient:
    config = load_file("production").dns
    assert isinstance(config, CloudflareDns)
    return CloudflareClient(config, token, httpx.MockTransport(api))


def test_cloudflare_record_is_made_unproxied() -> None:
    api = Cloudflare()
    assert ensure_public_record(cloudflare(api), "agents.icupa.dev", "203.0.113.7") is True
    (written,) = api.written
    assert written == (
        "POST",
        {"type": "A", "name": "agents.icupa.dev", "content": "203.0.113.7", "ttl": 60, "proxied": False},
    )


def test_cloudflare_record_that_is_there_stays() -> None:
    api = Cloudflare("203.0.113.9")
    assert ensure_public_record(cloudflare(api), "agents.icupa.dev", "203.0.113.7") is False
    assert api.written == []


def test_cloudflare_record_is_moved_and_is_then_the_only_one() -> None:
    api = Cloudflare("203.0.113.9", "203.0.113.8")
    client = cloudflare(api)
    client.replace("agents.icupa.dev", "203.0.113.7")
    assert client.read("agents.icupa.dev") == PublicRecord(("203.0.113.7",), 60)


def test_cloudflare_refusal_is_told_without_the_token() -> None:
    with pytest.raises(DnsError, match="answered 403: Authentication error") as caught:
        cloudflare(Cloudflare(), "canary-token").read("agents.icupa.dev")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("stack", "name"), [("local", "tsig-failover"), ("production", "cloudflare-token")])
def test_client_says_which_secret_it_needs(stack: str, name: str) -> None:
    assert secret_of(load_file(stack).dns) == f"${{secret:{name}}}"


@pytest.mark.parametrize(
    ("plan", "ttl", "seconds", "warned"),
    [
        ("free", 15, 60, True),
        ("business", 59, 60, True),
        ("free", 60, 60, False),
        ("enterprise", 15, 30, True),
        ("enterprise", 30, 30, False),
    ],
)
def test_cloudflare_has_a_lowest_time_to_live(plan: str, ttl: int, seconds: int, warned: bool) -> None:
    dns_settings = load_file("production").dns.model_copy(update={"plan": plan, "ttl": ttl})
    found = time_to_live(dns_settings)
    assert found.seconds == seconds
    assert (found.warning is not None) == warned
    if found.warning:
        assert f"accepts no less than {seconds} s" in found.warning
        assert f"icupa:dns.ttl is {ttl} s" in found.warning


def test_own_name_server_takes_fifteen_seconds() -> None:
    found = time_to_live(load_file("local").dns)
    assert (found.seconds, found.warning) == (15, None)


def test_every_certificate_name_is_delegated() -> None:
    stack = load_file("local")
    assert [delegation(stack, name) for name in certificate_names(stack)] == [
        ("_acme-challenge.agents.local.icupa.dev", "agents.challenge.local.icupa.dev"),
        ("_acme-challenge.primary.agents.local.icupa.dev", "primary.agents.challenge.local.icupa.dev"),
        ("_acme-challenge.fra1.agents.local.icupa.dev", "fra1.agents.challenge.local.icupa.dev"),
    ]
