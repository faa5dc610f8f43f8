"""Resolving at a given server and connecting by address, with real DNS and TLS on the loopback address."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.rrset
import httpx
import pytest

from infra.secrets import generators
from infra.secretstore import pki
from infra.smoke.client import Names, ResolvedTransport, UnknownNameError, trusting

ZONE = "local.icupa.dev"
NAME = f"agents.{ZONE}"


class Nameserver:
    """Answers A queries from a table."""

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table
        self.asked: list[str] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                query, _, peer = dns.query.receive_udp(self.socket)
            except (OSError, ValueError):
                return
            name = query.question[0].name
            self.asked.append(str(name))
            response = dns.message.make_response(query)
            address = self.table.get(str(name).rstrip("."))
            if address:
                response.answer.append(dns.rrset.from_text(name, 15, "IN", "A", address))
            else:
                response.set_rcode(dns.rcode.NXDOMAIN)
            dns.query.send_udp(self.socket, response, peer)


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    server = Nameserver({NAME: "127.0.0.1", f"fra1.{NAME}": "127.0.0.1"})
    yield server
    server.socket.close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Says which host it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.headers["Host"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@pytest.fixture
def authority() -> tuple[str, str]:
    key = generators.ec_key()
    return pki.authority(key, "test CA"), key


@pytest.fixture
def site(tmp_path: Path, authority: tuple[str, str]) -> Iterator[int]:
    """Port of a TLS server whose certificate is valid for NAME."""
    key = generators.ec_key()
    (tmp_path / "tls.key").write_text(key)
    (tmp_path / "tls.crt").write_text(pki.certificate(key, NAME, IPv4Address("10.0.0.1"), *authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


def test_asks_the_zones_own_server(nameserver: Nameserver) -> None:
    names = Names(ZONE, ("127.0.0.1", nameserver.port), ["127.0.0.99"])
    assert names.lookup(NAME) == (["127.0.0.1"], 15)
    assert nameserver.asked == [f"{NAME}."]


def test_an_unknown_name_is_named(nameserver: Nameserver) -> None:
    with pytest.raises(UnknownNameError, match=f"nobody.{ZONE}"):
        Names(ZONE, ("127.0.0.1", nameserver.port), []).address(f"nobody.{ZONE}")


def test_connects_by_address_and_keeps_the_name(
    nameserver: Nameserver, site: int, authority: tuple[str, str]
) -> None:
    names = Names(ZONE, ("127.0.0.1", nameserver.port), [])
    with httpx.Client(transport=ResolvedTransport(names, trusting(authority[0]))) as client:
        response = client.get(f"https://{NAME}:{site}/")
    assert response.text == f"{NAME}:{site}"
    assert response.request.url.host == NAME


def test_refuses_a_certificate_of_another_name(
    nameserver: Nameserver, site: int, authority: tuple[str, str]
) -> None:
    names = Names(ZONE, ("127.0.0.1", nameserver.port), [])
    with (
        httpx.Client(transport=ResolvedTransport(names, trusting(authority[0]))) as client,
        pytest.raises(httpx.ConnectError, match=r"(?i)hostname mismatch"),
    ):
        client.get(f"https://fra1.{NAME}:{site}/")


def test_refuses_an_authority_that_is_not_trusted(nameserver: Nameserver, site: int) -> None:
    names = Names(ZONE, ("127.0.0.1", nameserver.port), [])
    with (
        httpx.Client(transport=ResolvedTransport(names, trusting(""))) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(f"https://{NAME}:{site}/")


def test_an_address_wins_over_names(site: int, authority: tuple[str, str]) -> None:
    names = Names(ZONE, ("127.0.0.1", 1), [])
    with httpx.Client(transport=ResolvedTransport(names, trusting(authority[0]), "127.0.0.1")) as client:
        assert client.get(f"https://{NAME}:{site}/").status_code == 200
