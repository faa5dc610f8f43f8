"""The edge as it is rendered, running: real Traefik and oauth2-proxy, stubs of the service and the login."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from infra import paths
from infra.config.load import load_file
from infra.config.model import Role
from infra.services import names, oauth2_proxy, traefik
from infra.services.context import Context
from infra.services.model import Slot
from tests.waiting import eventually

_DEADLINE = 30.0
_POLL = 0.05
_KEY_ID = "k1"


class StubServer(ThreadingHTTPServer):
    """HTTP on a port of its own; keeps the headers of every request."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.seen: list[tuple[str, list[tuple[str, str]]]] = []
        self.documents: dict[str, Any] = {}
        self.name = ""

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    """Answers with a document, or with what was asked."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, StubServer)
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        path = self.path.partition("?")[0]
        if path != "/health/ready":
            server.seen.append((self.path, self.headers.items()))
        body = json.dumps(server.documents.get(path, {"from": server.name})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - names that http.server asks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Say nothing."""


@contextmanager
def serving(name: str) -> Iterator[StubServer]:
    """A stub that says its name to whoever asks."""
    with StubServer(_Handler) as server:
        server.name = name
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running_process(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    """A command that runs until the end, what it says in a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def free_port() -> int:
    """TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tool(name: str) -> str:
    """Executable that an image of ours copies."""
    path = paths.image_tools() / name / name
    assert path.is_file(), f"{path} is missing: run `python -m infra.toolchain ensure`"
    return str(path)


def await_condition(what: str, condition: Any, log: Path | None = None) -> None:
    """Poll until `condition()` is true; fails with the end of `log`."""
    eventually(
        condition,
        what,
        _DEADLINE,
        interval=_POLL,
        pardoned=(httpx.HTTPError, OSError),
        details=lambda: log.read_text()[-3000:] if log else "",
    )


@dataclass
class Login:
    """The stub of the OIDC provider: its keys, and tokens as it would issue them."""

    server: StubServer
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def issuer(self) -> str:
        """Its name."""
        return f"http://127.0.0.1:{self.server.port}"

    def publish(self) -> None:
        """Put discovery and keys where a client looks for them."""
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        self.server.documents = {
            "/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/auth",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/jwks": {"keys": [{**public, "kid": _KEY_ID, "use": "sig", "alg": "RS256"}]},
        }

    def token(self, key: rsa.RSAPrivateKey | None = None, **claims: Any) -> str:
        """Signed token for the API; claims are changed, None takes one out."""
        now = int(time.time())
        content = {
            "iss": self.issuer,
            "sub": "smoke",
            "aud": "icupa-agents",
            "iat": now,
            "exp": now + 300,
            **claims,
        }
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, key or self.key, algorithm="RS256", headers={"kid": _KEY_ID})

    def unsigned(self) -> str:
        """Token of nobody: `alg=none`."""
        return jwt.encode(jwt.decode(self.token(), options={"verify_signature": False}), "", algorithm="none")


@dataclass
class Edge:
    """Addresses of everything, and the directory that Traefik watches."""

    domain: str
    http: int
    https: int
    login: Login
    slots: dict[str, StubServer]
    maintenance: StubServer
    home: Path

    def client(self) -> httpx.Client:
        """Client that reaches the public name at the edge; certificates are this test's own."""
        return httpx.Client(base_url=f"https://127.0.0.1:{self.https}", verify=False, timeout=10)  # noqa: S501

    def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> httpx.Response:
        """One request to the public name."""
        with self.client() as client:
            request = client.build_request(
                method, path, headers={"Host": self.domain, "Accept": "*/*", **(headers or {})}
            )
            request.extensions["sni_hostname"] = self.domain
            return client.send(request)

    @property
    def seen(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Path and headers of what reached the service."""
        return [request for slot in self.slots.values() for request in slot.seen]

    def activate(self, slot: str, fallback: str | None = None, *, crashed: str | None = None) -> None:
        """Send requests to a slot: staged outside the watched directory and renamed in.

        Nothing listens where the `crashed` one was.
        """
        text = traefik.active_route(slot, None if fallback is None else Slot(fallback))
        for name, server in self.slots.items():
            port = free_port() if name == crashed else server.port
            text = text.replace(f"http://agents-{name}:{names.AGENTS_PORT}", f"http://127.0.0.1:{port}")
        self._put("active.yml", text)

    def show_maintenance(self, enabled: bool) -> None:
        """Send requests to the maintenance answer, or no more."""
        before = f"http://{names.MAINTENANCE}:{names.MAINTENANCE_PORT}"
        text = traefik.maintenance_route(enabled)
        assert before in text
        self._put("maintenance.yml", text.replace(before, f"http://127.0.0.1:{self.maintenance.port}"))

    def _put(self, name: str, text: str) -> None:
        staged = self.home / name
        staged.write_text(text)
        staged.rename(self.home / "dynamic" / name)


def make_certificate(domain: str, home: Path) -> dict[str, Any]:
    """Files with a certificate of its own for a name, as Traefik's configuration names them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (home / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (home / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {"certFile": str(home / "tls.crt"), "keyFile": str(home / "tls.key")}


def _edge_files(context: Context, home: Path, ports: dict[str, int]) -> Path:
    """Files of the proxy as they are rendered, with this test's ports, paths and certificate."""
    files = {file.source: file.content for file in traefik.service(context).files}
    static = yaml.safe_load(files["traefik/traefik.yml"])
    for name in ("web", "websecure", "internal"):
        static["entryPoints"][name]["address"] = f"127.0.0.1:{ports[name]}"
    redirection = static["entryPoints"]["web"]["http"]["redirections"]["entryPoint"]
    redirection["to"] = f":{ports['websecure']}"
    static["providers"]["file"]["directory"] = str(home / "dynamic")
    del static["certificatesResolvers"]
    (dynamic_file,) = traefik.dynamic_files(context)
    text = dynamic_file.content.replace(
        f"http://{names.OAUTH2_PROXY}:{names.OAUTH2_PROXY_PORT}", f"http://127.0.0.1:{ports['login']}"
    ).replace(str(names.EDGE_GATEWAY), "127.0.0.1")
    dynamic = yaml.safe_load(text)
    for router in dynamic["http"]["routers"].values():
        router.get("tls", {}).pop("certResolver", None)
    dynamic["tls"]["certificates"] = [make_certificate(context.stack.domain, home)]
    (home / "dynamic").mkdir()
    (home / "dynamic" / "edge.yml").write_text(yaml.safe_dump(dynamic))
    path = home / "traefik.yml"
    path.write_text(yaml.safe_dump(static))
    return path


def login_file(context: Context, home: Path, ports: dict[str, int], issuer: str) -> Path:
    """Configuration of oauth2-proxy as it is rendered, with this test's ports `login` and `metrics`."""
    text = oauth2_proxy.configuration(context)
    for before, after in (
        (f"0.0.0.0:{names.OAUTH2_PROXY_PORT}", f"127.0.0.1:{ports['login']}"),
        (f"0.0.0.0:{names.OAUTH2_PROXY_METRICS_PORT}", f"127.0.0.1:{ports['metrics']}"),
        (f"{names.TRAEFIK_ADDRESS}/32", "127.0.0.1/32"),
        (context.stack.login.issuer, issuer),
    ):
        assert before in text
        text = text.replace(before, after)
    path = home / "oauth2-proxy.cfg"
    path.write_text(text)
    return path


@contextmanager
def running_edge(home: Path) -> Iterator[Edge]:
    """Everything started and answering; ended again on leaving."""
    stack = load_file("local")
    machine = stack.hosts.machines[0]
    context = replace(Context("local", stack, machine.region, Role.PRIMARY), trust_certificates=())
    ports = {name: free_port() for name in ("web", "websecure", "internal", "login", "metrics")}
    with ExitStack() as running:
        slots = {slot: running.enter_context(serving(slot)) for slot in ("blue", "green")}
        maintenance = running.enter_context(serving("maintenance"))
        login = Login(running.enter_context(serving("login")))
        login.publish()
        edge = Edge(stack.domain, ports["web"], ports["websecure"], login, slots, maintenance, home)
        configuration = _edge_files(context, home, ports)
        edge.activate("blue")
        edge.show_maintenance(False)
        secret = {
            "OAUTH2_PROXY_CLIENT_ID": stack.login.client_id,
            "OAUTH2_PROXY_CLIENT_SECRET": "not-used-here",
            "OAUTH2_PROXY_COOKIE_SECRET": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        }
        login_log, edge_log = home / "oauth2-proxy.log", home / "traefik.log"
        configured = login_file(context, home, ports, login.issuer)
        running.enter_context(
            running_process([tool("oauth2-proxy"), f"--config={configured}"], login_log, secret)
        )
        running.enter_context(
            running_process([tool("traefik"), f"--configFile={configuration}"], edge_log, {})
        )
        ping = f"http://127.0.0.1:{ports['login']}/ready"
        await_condition("oauth2-proxy", lambda: httpx.get(ping).status_code == 200, login_log)
        bearer = {"Authorization": f"Bearer {login.token()}"}
        await_condition("edge", lambda: edge.get("/api/ready", bearer).status_code == 200, edge_log)
        yield edge
