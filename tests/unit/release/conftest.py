"""A registry over TLS with images in it, signed or not; and a record's good releases."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from infra import paths
from infra.providers import attest
from infra.record import Release
from infra.release.model import GIT_SHA_LABEL, SCHEMA_LABEL
from infra.release.registry import Login, RegistryAuth, Repository
from infra.release.signature import Verifier
from infra.secrets import generators
from infra.smoke.client import trusting
from tests import oci

HOST = "registry.example"
PATH = "icupa/agents-service"
IMAGE = f"{HOST}/{PATH}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "0123456fffffffffffffffffffffffffffffffff"
LOGIN = Login(oci.USER, oci.PASSWORD)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[oci.Registry]:
    with oci.serve(tmp_path_factory.mktemp("registry"), HOST) as registry:
        yield registry


@pytest.fixture
def registry(server: oci.Registry) -> Iterator[oci.Registry]:
    yield server
    server.manifests.clear()
    server.blobs.clear()
    server.asked.clear()
    server.status = None


class To(httpx.HTTPTransport):
    """Connects to the registry's address, whatever host and port the URL names."""

    def __init__(self, registry: oci.Registry) -> None:
        super().__init__(verify=trusting(registry.trust))
        self.registry = registry

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": HOST}
        request.url = request.url.copy_with(host=str(oci.ADDRESS), port=self.registry.port)
        return super().handle_request(request)


@pytest.fixture
def repository(registry: oci.Registry) -> Iterator[Repository]:
    with httpx.Client(transport=To(registry), auth=RegistryAuth(LOGIN), timeout=10) as client:
        yield Repository(IMAGE, client)


@pytest.fixture(scope="session")
def key() -> tuple[str, str]:
    """Private and public key of the environment."""
    private = generators.ec_key()
    return private, generators.public_key_pem(private)


@pytest.fixture
def cosign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real cosign, with nothing of this machine's logins."""
    monkeypatch.setenv("PATH", f"{paths.tools_bin()}:{os.environ['PATH']}")
    assert shutil.which("cosign"), "python -m infra.toolchain ensure provides cosign"


@pytest.fixture
def verifier(registry: oci.Registry, key: tuple[str, str], cosign: None) -> Verifier:
    return Verifier(key[1], LOGIN, [registry.trust], registry.address)


def sign(registry: oci.Registry, digest: str, private: str, directory: Path) -> None:
    """Sign an image as the program does, without SBOM and provenance."""
    auth = base64.b64encode(f"{oci.USER}:{oci.PASSWORD}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {HOST: {"auth": auth}}}))

    def only_signature(command: list[str], *rest: object) -> None:
        if command[:2] in (["cosign", "sign"], ["cosign", "import-key-pair"]):
            run(command, *rest)  # type: ignore[arg-type]

    run = attest._run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(directory))
        patch.setattr(attest, "_run", only_signature)
        attest.attest(
            f"{IMAGE}@{digest}",
            attest.Origin("git+https://example.com", COMMIT, "b" * 64, "debian:trixie-slim", "icupa"),
            attest.Registry(registry.address, [registry.trust]),
            attest.SigningKey(private, "a password"),
        )


def push(registry: oci.Registry, commit: str, *tags: str, seed: str = "") -> str:
    """Push an image as the program does; its digest."""
    return registry.push(PATH, [commit, *tags], {GIT_SHA_LABEL: commit, SCHEMA_LABEL: "0001"}, seed)


def release(digest: str, commit: str = COMMIT) -> Release:
    return Release(image=IMAGE, digest=digest, git_sha=commit, deployed_at=datetime.now(UTC), by="test")
