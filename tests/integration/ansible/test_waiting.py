"""The modules that wait: for services to answer, for certificates to be served."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from infra.secrets import generators
from infra.secretstore import pki
from tests.unit.ansible.conftest import PLUGINS

NAME = "agents.local.icupa.dev"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers 200 at /ready and at /service, and 503 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/ready", "/service") else 503)
        self.end_headers()
        self.wfile.write(b'{"http://agents-blue:8080":"UP"}')

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Start a server, with TLS where a context is given; returns its port."""
    servers = []

    def serving(context: ssl.SSLContext | None = None) -> int:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield serving
    for server in servers:
        server.shutdown()
        server.server_close()


def run(module: str, arguments: dict[str, Any], path: str = "/usr/bin:/bin") -> dict[str, Any]:
    """The module as Ansible runs it."""
    done = subprocess.run(
        [sys.executable, str(PLUGINS / "modules" / f"{module}.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def engine(tmp_path: Path) -> str:
    """PATH with an engine that has one container, of the service `web`: of its two networks one answers."""
    container = {
        "Config": {"Labels": {"com.docker.compose.service": "web"}},
        "NetworkSettings": {"Networks": {"a": {"IPAddress": "127.0.0.2"}, "b": {"IPAddress": "127.0.0.1"}}},
    }
    (tmp_path / "container.json").write_text(json.dumps([container]))
    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in ps) echo one;; inspect) cat {tmp_path}/container.json;; esac\n'
    )
    program.chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


def answers(engine: str, *checks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return run("service_answers", {"project": "p", "checks": list(checks), "timeout": 1, **more}, engine)


def test_a_service_answers_on_one_of_its_networks(engine: str, serve: Callable[..., int]) -> None:
    check = {
        "service": "web",
        "port": serve(),
        "path": "/service",
        "contains": '"http://agents-blue:8080":"UP"',
    }
    result = answers(engine, check)
    assert (result["changed"], result["answered"]) == (False, ["web"])


def test_an_answer_may_have_to_be_another_one_than_200(engine: str, serve: Callable[..., int]) -> None:
    port = serve()
    gone = {"service": "web", "port": port, "path": "/gone", "status": 503}
    assert answers(engine, gone)["answered"] == ["web"]
    result = answers(engine, {**gone, "path": "/ready"})
    assert result["failed"]
    assert "/ready answers 200" in result["msg"]


def test_says_what_every_service_answers(engine: str, serve: Callable[..., int]) -> None:
    port = serve()
    result = answers(
        engine,
        {"service": "web", "port": port, "path": "/ready", "contains": "agents-green"},
        {"service": "web", "port": port, "path": "/sick"},
        {"service": "db", "port": port},
    )
    assert result["failed"]
    assert "answers without 'agents-green'" in result["msg"]
    assert "/sick answers 503" in result["msg"]
    assert "db:" in result["msg"]
    assert "does not run" in result["msg"]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("service_answers", {"project": "p", "checks": [{"service": "web", "port": 1}]}),
        ("served_certificate", {"names": [NAME]}),
    ],
)
def test_a_dry_run_waits_for_nothing(module: str, arguments: dict[str, Any]) -> None:
    result = run(module, {**arguments, "_ansible_check_mode": True})
    assert (result["changed"], result["skipped"]) == (False, True)


@pytest.fixture
def authority() -> tuple[str, str]:
    key = generators.ec_key()
    return pki.authority(key, "test CA"), key


@pytest.fixture
def site(tmp_path: Path, authority: tuple[str, str], serve: Callable[..., int]) -> int:
    key = generators.ec_key()
    (tmp_path / "tls.key").write_text(key)
    (tmp_path / "tls.crt").write_text(pki.certificate(key, NAME, IPv4Address("10.0.0.1"), *authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    return serve(context)


def served(site: int, trust: str, *names: str, **more: Any) -> dict[str, Any]:
    return run(
        "served_certificate", {"names": list(names), "port": site, "trust": trust, "timeout": 0, **more}
    )


def test_accepts_a_trusted_certificate_of_the_name(site: int, authority: tuple[str, str]) -> None:
    result = served(site, authority[0], NAME)
    assert not result["changed"]
    assert list(result["ends"]) == [NAME]


def test_refuses_names_authorities_and_ends(site: int, authority: tuple[str, str]) -> None:
    assert "Hostname mismatch" in served(site, authority[0], NAME, f"fra1.{NAME}")["msg"]
    assert "CERTIFICATE_VERIFY_FAILED" in served(site, "", NAME)["msg"]
    assert "the certificate ends at" in served(site, authority[0], NAME, remaining=10**10)["msg"]
    assert "Connection refused" in served(1, authority[0], NAME)["msg"]
