"""Signatures of releases: the real cosign against the registry (IMG-4)."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import pytest

from infra import paths
from infra.providers import attest
from infra.release.model import ReleaseError
from infra.release.registry import UnreachableError
from infra.release.signature import UnsignedError, Verifier
from infra.secrets import generators
from tests import oci
from tests.unit.release.conftest import COMMIT, HOST, IMAGE, LOGIN, OTHER_COMMIT, PATH, push

DIGEST = f"sha256:{'1' * 64}"


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


def test_ours_is_accepted(
    registry: oci.Registry, key: tuple[str, str], verifier: Verifier, tmp_path: Path
) -> None:
    digest = push(registry, COMMIT)
    sign(registry, digest, key[0], tmp_path)
    verifier.verify(IMAGE, digest)


def test_none_is_refused(
    registry: oci.Registry, key: tuple[str, str], verifier: Verifier, tmp_path: Path
) -> None:
    sign(registry, push(registry, COMMIT), key[0], tmp_path)
    unsigned = push(registry, OTHER_COMMIT)
    with pytest.raises(UnsignedError, match=f"{IMAGE}@{unsigned} is not signed: "):
        verifier.verify(IMAGE, unsigned)


def test_somebody_elses_is_refused(registry: oci.Registry, verifier: Verifier, tmp_path: Path) -> None:
    digest = push(registry, COMMIT)
    sign(registry, digest, generators.ec_key(), tmp_path)
    with pytest.raises(UnsignedError, match=r"not with this environment's key \(public/image-signing-key"):
        verifier.verify(IMAGE, digest)


def test_another_images_signature_is_refused(
    registry: oci.Registry, key: tuple[str, str], verifier: Verifier, tmp_path: Path
) -> None:
    signed, other = push(registry, COMMIT), push(registry, OTHER_COMMIT)
    sign(registry, signed, key[0], tmp_path)
    tag = f"sha256-{signed.removeprefix('sha256:')}"
    kind, content = registry.manifests[(PATH, tag)]
    registry.put_manifest(PATH, [f"sha256-{other.removeprefix('sha256:')}"], kind, content)
    with pytest.raises(ReleaseError):
        verifier.verify(IMAGE, other)


def test_a_silent_registry_is_not_an_unsigned_image(verifier: Verifier) -> None:
    nowhere = Verifier(verifier.public_key, LOGIN, verifier.trust, f"{oci.ADDRESS}:1")
    with pytest.raises(UnreachableError):
        nowhere.verify(IMAGE, DIGEST)


def test_a_missing_tool_is_named(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ReleaseError, match="cosign is not on PATH"):
        verifier.verify(IMAGE, DIGEST)
