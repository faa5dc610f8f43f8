"""A registry in this process: TLS, basic authentication, all in memory; enough for cosign and for us."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from infra.secrets import generators
from infra.secretstore import pki

ADDRESS = IPv4Address("127.0.0.1")
USER, PASSWORD = "icupa", "registry-password"
KIND = "application/vnd.oci.image"


def digest_of(content: bytes) -> str:
    """Digest of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Registry:
    """Content by repository; `asked` are the requests it got, `status` is answered to all where set."""

    host: str
    port: int
    trust: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int | None = None

    @property
    def address(self) -> str:
        """Where it is reached."""
        return f"{ADDRESS}:{self.port}"

    def push(self, repository: str, tags: list[str], labels: Mapping[str, str], seed: str = "") -> str:
        """Put an image without layers; its digest."""
        document: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": dict(labels)},
            "rootfs": {"type": "layers", "diff_ids": []},
            "comment": seed,
        }
        config = json.dumps(document).encode()
        self.blobs[digest_of(config)] = config
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{KIND}.manifest.v1+json",
                "config": {
                    "mediaType": f"{KIND}.config.v1+json",
                    "digest": digest_of(config),
                    "size": len(config),
                },
                "layers": [],
            }
        ).encode()
        return self.put_manifest(repository, tags, f"{KIND}.manifest.v1+json", manifest)

    def put_manifest(self, repository: str, tags: list[str], kind: str, content: bytes) -> str:
        """Store a manifest under its digest and some tags."""
        digest = digest_of(content)
        for name in (digest, *tags):
            self.manifests[(repository, name)] = (kind, content)
        return digest

    def tags(self, repository: str) -> list[str]:
        """Tags of a repository."""
        return sorted(
            name for owner, name in self.manifests if owner == repository and not name.startswith("sha256:")
        )


registries: dict[int, Registry] = {}
"""Those that are served, by port."""


class Handler(BaseHTTPRequestHandler):
    """The API, as far as it is asked for."""

    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> Registry:
        """The registry whose server this is."""
        return registries[self.connection.getsockname()[1]]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error of the specification."""
        body = json.dumps({"errors": [{"code": code}]}).encode()
        self.answer(status, body, Content_Type="application/json")

    def content(self) -> bytes:
        """Body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_request(self) -> None:
        """Route."""
        body = self.content()
        self.registry.asked.append(f"{self.command} {self.path}")
        if self.registry.status is not None:
            self.refuse(self.registry.status, "UNAVAILABLE")
            return
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {login}":
            self.answer(401, WWW_Authenticate='Basic realm="test"')
            return
        url = urlsplit(self.path)
        path = url.path.removeprefix("/v2/")
        query = parse_qs(url.query)
        if path == "":
            self.answer(200)
        elif "/blobs/uploads/" in f"{path}/":
            self.upload(body, query)
        elif "/blobs/" in path:
            self.blob(path.rpartition("/")[2])
        elif "/manifests/" in path:
            repository, _, name = path.partition("/manifests/")
            self.manifest(repository, name, body)
        elif path.endswith("/tags/list"):
            self.tag_page(path.removesuffix("/tags/list"), query)
        else:
            self.refuse(404, "UNSUPPORTED")

    def upload(self, body: bytes, query: dict[str, list[str]]) -> None:
        """Upload in one piece."""
        if self.command == "POST":
            self.answer(202, Location=f"{self.path.partition('?')[0]}one")
        elif self.command == "PATCH":
            self.registry.blobs["upload"] = body
            self.answer(202, Location=self.path)
        else:
            content = body or self.registry.blobs.pop("upload", b"")
            self.registry.blobs[digest_of(content)] = content
            self.answer(201 if [digest_of(content)] == query["digest"] else 400)

    def blob(self, digest: str) -> None:
        """Read a blob."""
        if digest in self.registry.blobs:
            self.answer(200, self.registry.blobs[digest], Docker_Content_Digest=digest)
        else:
            self.refuse(404, "BLOB_UNKNOWN")

    def manifest(self, repository: str, name: str, body: bytes) -> None:
        """Read or write a manifest."""
        if self.command == "PUT":
            tags = [] if name.startswith("sha256:") else [name]
            self.registry.put_manifest(repository, tags, self.headers["Content-Type"], body)
            self.answer(201, Docker_Content_Digest=digest_of(body))
        elif (repository, name) in self.registry.manifests:
            kind, content = self.registry.manifests[(repository, name)]
            self.answer(200, content, Content_Type=kind, Docker_Content_Digest=digest_of(content))
        else:
            self.refuse(404, "MANIFEST_UNKNOWN")

    def tag_page(self, repository: str, query: dict[str, list[str]]) -> None:
        """Two tags a page, whatever was asked for."""
        tags = [tag for tag in self.registry.tags(repository) if tag > query.get("last", [""])[0]]
        if not self.registry.tags(repository):
            self.refuse(404, "NAME_UNKNOWN")
            return
        headers = {}
        if len(tags) > 2:
            headers["Link"] = f'</v2/{repository}/tags/list?n=2&last={tags[1]}>; rel="next"'
        body = json.dumps({"name": repository, "tags": tags[:2]}).encode()
        self.answer(200, body, Content_Type="application/json", **headers)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_request  # noqa: N815


@contextmanager
def serve(directory: Path, host: str) -> Iterator[Registry]:
    """Serve a registry whose certificate names `host` and the loopback address."""
    authority_key, key = generators.ec_key(), generators.ec_key()
    authority = pki.authority(authority_key, "test")
    (directory / "tls.key").write_text(key)
    (directory / "tls.crt").write_text(pki.certificate(key, host, ADDRESS, authority, authority_key))
    server = ThreadingHTTPServer((str(ADDRESS), 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    registry = Registry(host, server.server_address[1], authority)
    registries[registry.port] = registry
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        del registries[registry.port]
