"""Whole rotations at the vendors' double: one valid value at each of them, also after faults."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.record import Lease, Record, Release, RotationPhase, Switch
from infra.record.directory import DirectoryStore
from infra.rotation.issuers import IssuerUnavailableError, checker, issuer
from infra.rotation.steps import Steps
from infra.secretstore import SopsStore, open_store, sops
from reference.vendors.faults import Fault
from tests.integration.rotation.issuers.conftest import IN_USE, World

STACK = "production"
NAMES = ("openai-api-key", "openai-admin-key", "supabase-service-role-key", "vercel-token")
VENDORS = dict(zip(NAMES, ("openai", "openai", "supabase", "vercel"), strict=True))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SopsStore:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SOPS_AGE_KEY", sops.new_identity()[0])
    made = open_store({}, STACK, record=DirectoryStore(tmp_path / "record"))
    made.put_many(IN_USE, by="ada")
    return made


@pytest.fixture
def steps(world: World, store: SopsStore, tmp_path: Path) -> Steps:
    """A run that holds the lease; credentials are the store's values in use."""
    record = Record(DirectoryStore(tmp_path / "record"))
    release = Release(
        image="registry/agents",
        digest=f"sha256:{'a' * 64}",
        git_sha="0" * 40,
        deployed_at=datetime(2026, 1, 2, tzinfo=UTC),
        by="ada",
    )
    record.bootstrap(
        release=release, hosts=["primary"], switches=dict.fromkeys(Switch, True), active_region="primary"
    )
    token = record.acquire("rotate", operation_id="rotate-0123456789ab").token

    def lease() -> Lease:
        return record.held_lease(token)

    return Steps(
        record=record,
        store=store,
        lease=lease,
        issuer=lambda name: issuer(name, world.outputs, store, web=world.wire),
        checker=lambda name: checker(name, world.outputs, store, web=world.wire),
        readback=lambda _: [],
        by="ada",
    )


def begun(steps: Steps, name: str) -> None:
    steps.begin(steps.old_ids([name]), "local")


@pytest.mark.parametrize("name", NAMES)
def test_the_old_one_is_refused_and_the_new_one_in_use(steps: Steps, name: str) -> None:
    old = steps.store.get(name)
    begun(steps, name)
    steps.create()
    steps.offer({})
    steps.verify()
    steps.promote()
    steps.revoke()
    new = steps.store.get(name)
    assert new != old
    assert steps.checker(name).accepts(new)
    assert not steps.checker(name).accepts(old)
    assert steps.journal == {}


@pytest.mark.parametrize("name", NAMES)
def test_what_was_offered_is_taken_back(steps: Steps, name: str) -> None:
    old = steps.store.get(name)
    begun(steps, name)
    steps.create()
    steps.offer({})
    staged = steps.store.next(name)
    assert staged is not None
    assert steps.checker(name).accepts(staged.value)
    assert steps.undo()
    steps.withdraw()
    assert steps.store.get(name) == old
    assert steps.checker(name).accepts(old)
    assert not steps.checker(name).accepts(staged.value)
    assert steps.journal == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_vendor_that_is_down_leaves_the_old_one_in_use(steps: Steps, world: World, name: str) -> None:
    begun(steps, name)
    world.faults.by_vendor[VENDORS[name]] = Fault(mode="down")
    with pytest.raises(IssuerUnavailableError):
        steps.create()
    assert steps.undo()
    with pytest.raises(IssuerUnavailableError):
        steps.withdraw()
    assert steps.store.get(name) == IN_USE[name]
    assert [found.phase for found in steps.journal.values()] == [RotationPhase.UNDOING]
    del world.faults.by_vendor[VENDORS[name]]
    steps.withdraw()
    assert steps.journal == {}
    assert steps.checker(name).accepts(IN_USE[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_value_whose_answer_was_lost_is_revoked(steps: Steps, world: World, name: str) -> None:
    begun(steps, name)
    world.wire.lose = "POST"
    with pytest.raises(IssuerUnavailableError):
        steps.create()
    world.wire.lose = ""
    (rotation,) = steps.journal.values()
    assert len(steps.issuer(name).labelled(rotation.label)) == 1, "it was made"
    assert steps.undo()
    steps.withdraw()
    assert steps.issuer(name).labelled(rotation.label) == []
    assert steps.checker(name).accepts(IN_USE[name])
