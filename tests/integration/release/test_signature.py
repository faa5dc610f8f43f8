"""Signatures of releases: the real cosign against the registry (IMG-4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.release.model import ReleaseError
from infra.release.registry import UnreachableError
from infra.release.signature import UnsignedError, Verifier
from infra.secrets import generators
from tests import oci
from tests.unit.release.conftest import COMMIT, IMAGE, LOGIN, OTHER_COMMIT, PATH, push, sign

DIGEST = f"sha256:{'1' * 64}"


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
