"""Signature, SBOM and provenance are attached in a real registry and hold against the right key only."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import bcrypt
import docker
import httpx
import pytest
from docker.types import IPAMConfig, IPAMPool

from infra import images
from infra.providers.attest import PROVENANCE, SBOM, Origin, Registry, SigningKey, attest
from infra.secrets import generators
from infra.secretstore import pki
from tests.waiting import eventually

pytestmark = pytest.mark.system

NAME = "icupa-test-attest"
ADDRESS = IPv4Address("10.95.0.14")
HOST = "registry.example"
REPOSITORY = "icupa/agents-service"
LOGIN = ("icupa", "test-password")
ORIGIN = Origin("git+https://example.com/icupa", "a" * 40, "b" * 64, "debian:trixie-slim", "icupa")
CONFIGURATION = """
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: "0.0.0.0:443", tls: {certificate: /test/tls.crt, key: /test/tls.key}}
auth: {htpasswd: {realm: test, path: /test/htpasswd}}
"""


@dataclass(frozen=True)
class Pushed:
    """An image in the registry, and what a client needs to reach it."""

    digest: str
    trust: str
    client: httpx.Client

    @property
    def reference(self) -> str:
        return f"{HOST}/{REPOSITORY}@{self.digest}"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    directory = tmp_path_factory.mktemp("registry")
    authority_key, key = generators.ec_key(), generators.ec_key()
    authority = pki.authority(authority_key, "test")
    (directory / "tls.key").write_text(key)
    (directory / "tls.crt").write_text(pki.certificate(key, HOST, ADDRESS, authority, authority_key))
    hashed = bcrypt.hashpw(LOGIN[1].encode(), bcrypt.gensalt(4)).decode()
    (directory / "htpasswd").write_text(f"{LOGIN[0]}:{hashed}\n")
    (directory / "config.yml").write_text(CONFIGURATION)
    engine = docker.from_env(timeout=120)
    remove(engine)
    subnet = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{ADDRESS}/24")])
    network = engine.networks.create(NAME, ipam=subnet)
    container = engine.containers.create(
        images.local_tag("registry"),
        ["serve", "/test/config.yml"],
        name=NAME,
        entrypoint="docker-registry",
        volumes=[f"{directory}:/test:ro"],
    )
    engine.networks.get("bridge").disconnect(container)
    network.connect(container, ipv4_address=str(ADDRESS))
    container.start()
    context = ssl.create_default_context(cadata=authority)
    with httpx.Client(base_url=f"https://{ADDRESS}", verify=context, auth=LOGIN, timeout=30) as client:
        eventually(
            lambda: client.get("/v2/").raise_for_status(),
            "the registry answers",
            30,
            pardoned=(httpx.TransportError,),
        )
        yield Pushed(push(client), authority, client)
    remove(engine)


def remove(engine: docker.DockerClient) -> None:
    for container in engine.containers.list(all=True, filters={"name": NAME}):
        container.remove(force=True, v=True)
    for network in engine.networks.list(names=[NAME]):
        network.remove()


def push(client: httpx.Client) -> str:
    """Push an image of one layer in which one Debian package is installed; return its digest."""
    status = b"Package: planted\nStatus: install ok installed\nArchitecture: all\nVersion: 1.2.3\n\n"
    release = b'ID=debian\nVERSION_ID="13"\n'
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("var/lib/dpkg/status", status), ("etc/os-release", release)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    layer = buffer.getvalue()
    rootfs = {"type": "layers", "diff_ids": [digest_of(layer)]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    kind = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": descriptor(f"{kind}.config.v1+json", config),
            "layers": [descriptor(f"{kind}.layer.v1.tar", layer)],
        }
    ).encode()
    for blob in (config, layer):
        place = httpx.URL(client.post(f"/v2/{REPOSITORY}/blobs/uploads/").headers["location"])
        place = place.copy_merge_params({"digest": digest_of(blob)}).copy_with(host=str(ADDRESS))
        client.put(place, content=blob).raise_for_status()
    headers = {"content-type": f"{kind}.manifest.v1+json"}
    client.put(f"/v2/{REPOSITORY}/manifests/latest", content=manifest, headers=headers).raise_for_status()
    return digest_of(manifest)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}


@pytest.fixture(scope="module")
def public_key(pushed: Pushed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Attest the image; the login stands under the registry's name only, as in the environment."""
    directory = tmp_path_factory.mktemp("login")
    auth = base64.b64encode(":".join(LOGIN).encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {HOST: {"auth": auth}}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(directory))
        signing_key = SigningKey(generators.ec_key(), "a password")
        text = attest(pushed.reference, ORIGIN, Registry(str(ADDRESS), [pushed.trust]), signing_key)
    (directory / "config.json").write_text(json.dumps({"auths": {str(ADDRESS): {"auth": auth}}}))
    key = directory / "image.pub"
    key.write_text(text)
    yield key


def cosign(pushed: Pushed, key: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    trust = key.parent / "trust.pem"
    trust.write_text(pushed.trust)
    return subprocess.run(
        [
            "cosign",
            *arguments,
            "--key",
            str(key),
            "--insecure-ignore-tlog",
            f"{ADDRESS}/{REPOSITORY}@{pushed.digest}",
        ],
        env={**os.environ, "DOCKER_CONFIG": str(key.parent), "SSL_CERT_FILE": str(trust)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def statement(pushed: Pushed, key: Path, kind: str) -> dict[str, Any]:
    done = cosign(pushed, key, "verify-attestation", "--type", kind)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    payload: dict[str, Any] = json.loads(base64.b64decode(json.loads(line)["payload"]))
    return payload


def test_the_image_is_signed(pushed: Pushed, public_key: Path) -> None:
    done = cosign(pushed, public_key, "verify")
    assert done.returncode == 0, done.stderr
    assert pushed.digest in done.stdout


def test_the_sbom_lists_what_is_installed(pushed: Pushed, public_key: Path) -> None:
    found = statement(pushed, public_key, SBOM)
    assert found["subject"][0]["digest"]["sha256"] == pushed.digest.removeprefix("sha256:")
    packages = {it["name"]: it.get("versionInfo") for it in found["predicate"]["packages"]}
    assert packages["planted"] == "1.2.3"
    assert packages[f"{HOST}/{REPOSITORY}"] == pushed.digest


def test_the_provenance_names_the_commit(pushed: Pushed, public_key: Path) -> None:
    definition = statement(pushed, public_key, PROVENANCE)["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["source"]["digest"]["gitCommit"] == ORIGIN.git_sha
    assert definition["internalParameters"]["contextHash"] == ORIGIN.source_digest


def test_another_key_verifies_nothing(pushed: Pushed, public_key: Path) -> None:
    other = public_key.with_name("other.pub")
    other.write_text(generators.public_key_pem(generators.ec_key()))
    assert cosign(pushed, other, "verify").returncode != 0
    assert cosign(pushed, other, "verify-attestation", "--type", SBOM).returncode != 0
