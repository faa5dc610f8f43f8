"""Which value hosts are given while a secret is being rotated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.record import Record, Release, Rotation, RotationPhase, Switch
from infra.record.directory import DirectoryStore
from infra.record.model import now
from infra.secretstore import SopsStore, Staged, open_store, sops
from infra.site.secrets import open_resolver

STACK, NAME, OTHER = "production", "openai-api-key", "metrics-token"
TEXT = "${secret:openai-api-key} ${secret:metrics-token}"
NEW = {RotationPhase.OFFERED, RotationPhase.VERIFIED, RotationPhase.PROMOTED}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SOPS_AGE_KEY", sops.new_identity()[0])
    return DirectoryStore(tmp_path / "record")


@pytest.fixture
def store(directory: DirectoryStore) -> SopsStore:
    """Both have a value in use and one that is staged."""
    made = open_store({}, STACK, record=directory)
    made.put_many({NAME: "old", OTHER: "token"}, by="ada")
    made.stage(NAME, Staged("new", "key_2"), by="ada")
    made.stage(OTHER, Staged("next-token", "2"), by="ada")
    return made


@pytest.fixture
def record(directory: DirectoryStore) -> Record:
    made = Record(directory)
    release = Release(
        image="registry.example/agents",
        digest=f"sha256:{'a' * 64}",
        git_sha="0" * 40,
        deployed_at=datetime(2026, 1, 2, tzinfo=UTC),
        by="ada",
    )
    made.bootstrap(
        release=release, hosts=["primary"], switches=dict.fromkeys(Switch, True), active_region="primary"
    )
    return made


def resolved(directory: DirectoryStore) -> str:
    return open_resolver({}, STACK, {"url": directory.url}, [TEXT])(TEXT)


def enter(record: Record, phase: RotationPhase | None) -> None:
    found = phase and Rotation(operation="rotate-1", phase=phase, label="x", started_at=now())
    with record.lease("rotate") as lease:
        lease.update("rotate.test", lambda state: state.with_rotations({NAME: found or None}))


@pytest.mark.parametrize("phase", list(RotationPhase))
def test_hosts_get_what_the_journal_says_of_each_secret(
    store: SopsStore, record: Record, directory: DirectoryStore, phase: RotationPhase
) -> None:
    enter(record, phase)
    assert resolved(directory) == f"{'new' if phase in NEW else 'old'} token"


def test_a_run_that_was_killed_between_record_and_store_leaves_hosts_with_the_new_value(
    store: SopsStore, record: Record, directory: DirectoryStore
) -> None:
    enter(record, RotationPhase.PROMOTED)
    assert resolved(directory) == "new token"
    store.promote({NAME: "key_2"})
    assert resolved(directory) == "new token"
    store.forget(NAME)
    enter(record, None)
    assert resolved(directory) == "new token"


def test_what_is_staged_without_a_journal_is_given_to_nobody(
    store: SopsStore, directory: DirectoryStore
) -> None:
    assert resolved(directory) == "old token"
