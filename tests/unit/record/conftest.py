"""Records for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.record import Record, Release, Store, Switch
from infra.record.directory import DirectoryStore
from infra.record.objects import ObjectStoreDriver


@pytest.fixture(params=["directory", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "record")
    return ObjectStoreDriver("memory:///")


@pytest.fixture
def digest() -> Callable[[str], str]:
    return lambda letter: f"sha256:{letter * 64}"


@pytest.fixture
def release(digest: Callable[[str], str]) -> Release:
    return Release(
        image="registry.example/agents",
        digest=digest("a"),
        git_sha="0" * 40,
        deployed_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        by="alice",
    )


@pytest.fixture
def empty(store: Store) -> Record:
    return Record(store)


@pytest.fixture
def record(empty: Record, release: Release) -> Record:
    empty.bootstrap(
        release=release,
        hosts=["primary", "standby"],
        switches=dict.fromkeys(Switch, True),
        active_region="primary",
    )
    return empty
