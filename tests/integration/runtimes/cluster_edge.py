"""The edge of a cluster as it is rendered: real Traefik and oauth2-proxy, a stub of the API."""

from __future__ import annotations

import base64
import json
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import yaml

from infra.runtimes.kubernetes import Manifest
from infra.runtimes.kubernetes.edge import CERTIFICATE_SECRET
from infra.services import names, oauth2_proxy
from infra.services.context import Context
from tests.integration.services.edge import (
    Login,
    StubServer,
    await_condition,
    free_port,
    make_certificate,
    running_process,
    serving,
    tool,
)
from tests.unit.runtimes.clusters import context_of, find, objects_of

_END: dict[str, Any] = {}
_UNSUPPORTED = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}


class ClusterApi(ThreadingHTTPServer):
    """Lists and watches of objects, as clients of a cluster's API ask for them."""

    daemon_threads = True

    def __init__(self, objects: list[Manifest]) -> None:
        super().__init__(("127.0.0.1", 0), _ApiHandler)
        self.objects = [dict(item) for item in objects]
        self.watches: list[tuple[str, queue.Queue[dict[str, Any]]]] = []
        self.asked: set[str] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listed(self, path: str) -> list[Manifest]:
        """Objects below a path such as `/apis/apps/v1/namespaces/auth/deployments`."""
        return [item for item in self.objects if _path(item) == path or _path(item, everywhere=True) == path]

    def add(self, item: Manifest) -> None:
        """A new object, which all that watch its kind are told of."""
        with self.lock:
            self.objects.append(item)
            for path, events in self.watches:
                if _path(item) == path:
                    events.put({"type": "ADDED", "object": _versioned(item)})

    def end(self) -> None:
        """Let all watches end."""
        with self.lock:
            for _, events in self.watches:
                events.put(_END)


class _ApiHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, ClusterApi)
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        server.asked.add(parts.path)
        if "sendInitialEvents" in query:
            self._answer(422, _UNSUPPORTED)
        elif query.get("watch") in (["true"], ["1"]):
            self._watch(server, parts.path)
        else:
            with server.lock:
                items = [_versioned(item) for item in server.listed(parts.path)]
            metadata = {"resourceVersion": "1"}
            self._answer(200, {**_list_kind(parts.path), "metadata": metadata, "items": items})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, server: ClusterApi, path: str) -> None:
        events: queue.Queue[dict[str, Any]] = queue.Queue()
        with server.lock:
            server.watches.append((path, events))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while event := events.get():
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Say nothing."""


_KINDS = (
    "EndpointSlice",
    "Ingress",
    "IngressClass",
    "IngressRoute",
    "IngressRouteTCP",
    "IngressRouteUDP",
    "Middleware",
    "MiddlewareTCP",
    "Node",
    "Secret",
    "ServersTransport",
    "ServersTransportTCP",
    "Service",
    "TLSOption",
    "TLSStore",
    "TraefikService",
)


def _list_kind(path: str) -> dict[str, str]:
    """Kind and version of the answer to a list: `/apis/<group>/<version>/…/<plural>`."""
    parts = path.strip("/").split("/")
    version = parts[1] if parts[0] == "api" else "/".join(parts[1:3])
    kind = next((kind for kind in _KINDS if _plural(kind) == parts[-1]), "")
    return {"kind": f"{kind}List", "apiVersion": version}


def _plural(kind: str) -> str:
    low = kind.lower()
    return f"{low}es" if low.endswith("s") else f"{low}s"


def _path(item: Manifest, everywhere: bool = False) -> str:
    version, plural = item["apiVersion"], _plural(item["kind"])
    namespace = "" if everywhere else item["metadata"].get("namespace", "")
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{'/api' if version == 'v1' else '/apis'}/{version}{middle}/{plural}"


def _versioned(item: Manifest) -> Manifest:
    return {**item, "metadata": {**item["metadata"], "resourceVersion": "1", "uid": item["metadata"]["name"]}}


@dataclass
class ClusterEdge:
    """Addresses of everything."""

    domain: str
    https: int
    api: ClusterApi
    login: Login
    agents: StubServer

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """One request to the public name; certificates are this test's own."""
        with httpx.Client(verify=False, timeout=10) as client:  # noqa: S501
            request = client.build_request(
                "GET",
                f"https://127.0.0.1:{self.https}{path}",
                headers={"Host": self.domain, "Accept": "*/*", **(headers or {})},
            )
            request.extensions["sni_hostname"] = self.domain
            return client.send(request)


def _slice(service: str, namespace: str, port: int) -> Manifest:
    """What a cluster itself makes of a Service: where its pods are."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True, "serving": True}}],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def _certificate_secret(domain: str, home: Path) -> Manifest:
    """What cert-manager makes of a Certificate."""
    files = make_certificate(domain, home)
    data = {
        "tls.crt": base64.b64encode(Path(files["certFile"]).read_bytes()).decode(),
        "tls.key": base64.b64encode(Path(files["keyFile"]).read_bytes()).decode(),
    }
    metadata = {"name": CERTIFICATE_SECRET, "namespace": "agents-service"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": metadata,
        "data": data,
    }


def _proxy_file(objects: list[Manifest], home: Path, ports: dict[str, int], api: str) -> Path:
    static = yaml.safe_load(find(objects, "ConfigMap", "traefik-files")["data"]["traefik.traefik.yml"])
    for name in ("web", "websecure", "internal"):
        static["entryPoints"][name]["address"] = f"127.0.0.1:{ports[name]}"
    for provider in ("kubernetesCRD", "kubernetesIngress"):
        static["providers"][provider]["endpoint"] = api
    path = home / "traefik.yml"
    path.write_text(yaml.safe_dump(static))
    return path


def _login_file(context: Context, home: Path, ports: dict[str, int], issuer: str) -> Path:
    text = oauth2_proxy.configuration(context)
    for before, after in (
        (f"0.0.0.0:{names.OAUTH2_PROXY_PORT}", f"127.0.0.1:{ports['login']}"),
        (f"0.0.0.0:{names.OAUTH2_PROXY_METRICS_PORT}", f"127.0.0.1:{ports['metrics']}"),
        (context.platform.proxies[0], "127.0.0.1/32"),
        (context.stack.login.issuer, issuer),
    ):
        assert before in text
        text = text.replace(before, after)
    path = home / "oauth2-proxy.cfg"
    path.write_text(text)
    return path


@contextmanager
def _serving_api(objects: list[Manifest]) -> Iterator[ClusterApi]:
    with ClusterApi(objects) as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            api.end()
            api.shutdown()
            thread.join()


@contextmanager
def running_cluster_edge(home: Path) -> Iterator[ClusterEdge]:
    """Everything started and answering; ended again on leaving."""
    context = context_of("production")
    ports = {name: free_port() for name in ("web", "websecure", "internal", "login", "metrics")}
    login_url = f"http://{names.OAUTH2_PROXY}.auth:{names.OAUTH2_PROXY_PORT}"
    text = json.dumps(objects_of("production"))
    assert login_url in text
    objects: list[Manifest] = json.loads(text.replace(login_url, f"http://127.0.0.1:{ports['login']}"))
    with ExitStack() as running:
        agents = running.enter_context(serving("agents"))
        maintenance = running.enter_context(serving("maintenance"))
        login = Login(running.enter_context(serving("login")))
        login.publish()
        made = [
            _slice(names.AGENTS, "agents-service", agents.port),
            _slice(names.MAINTENANCE, "agents-service", maintenance.port),
            _slice(names.OAUTH2_PROXY, "auth", ports["login"]),
            _certificate_secret(context.stack.domain, home),
        ]
        api = running.enter_context(_serving_api([*objects, *made]))
        edge = ClusterEdge(context.stack.domain, ports["websecure"], api, login, agents)
        secret = {
            "OAUTH2_PROXY_CLIENT_ID": context.stack.login.client_id,
            "OAUTH2_PROXY_CLIENT_SECRET": "not-used-here",
            "OAUTH2_PROXY_COOKIE_SECRET": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        }
        logs = home / "oauth2-proxy.log", home / "traefik.log"
        files = (
            _login_file(context, home, ports, login.issuer),
            _proxy_file(objects, home, ports, api.url),
        )
        running.enter_context(
            running_process([tool("oauth2-proxy"), f"--config={files[0]}"], logs[0], secret)
        )
        running.enter_context(running_process([tool("traefik"), f"--configFile={files[1]}"], logs[1], {}))
        ping = f"http://127.0.0.1:{ports['login']}/ready"
        await_condition("oauth2-proxy", lambda: httpx.get(ping).status_code == 200, logs[0])
        bearer = {"Authorization": f"Bearer {login.token()}"}
        await_condition("edge", lambda: edge.get("/api/ready", bearer).status_code == 200, logs[1])
        yield edge
