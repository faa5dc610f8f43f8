"""A home of its own for every test, with an age identity and a store where asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.record.directory import DirectoryStore
from infra.secretstore import SopsStore, open_store, sops

STACK = "production"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Home directory; no identity comes from outside."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """File with an age identity, used by SOPS_AGE_KEY_FILE."""
    path = tmp_path / "identity"
    path.write_text(sops.new_identity()[0])
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(path))
    return path


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "record")


@pytest.fixture
def store(identity: Path, directory: DirectoryStore) -> SopsStore:
    return open_store({"driver": "sops"}, STACK, record=directory)
