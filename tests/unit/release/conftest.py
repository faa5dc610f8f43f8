"""A registry over TLS with images in it, signed or not; and a record's good releases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from infra.record import Release
from infra.release.model import GIT_SHA_LABEL, SCHEMA_LABEL
from infra.release.registry import Login, RegistryAuth, Repository
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


def push(registry: oci.Registry, commit: str, *tags: str, seed: str = "") -> str:
    """Push an image as the program does; its digest."""
    return registry.push(PATH, [commit, *tags], {GIT_SHA_LABEL: commit, SCHEMA_LABEL: "0001"}, seed)


def release(digest: str, commit: str = COMMIT) -> Release:
    return Release(image=IMAGE, digest=digest, git_sha=commit, deployed_at=datetime.now(UTC), by="test")
