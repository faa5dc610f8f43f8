"""The steps over a real record, store and issuer: killed before or after any effect, they end the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.record import (
    LeaseLostError,
    Record,
    Release,
    RotationPhase,
    Slot,
    StoreUnavailableError,
    Switch,
)
from infra.record.directory import DirectoryStore
from infra.rotation.issuers import IssuerError, OnHostsError
from infra.rotation.plan import RotationError
from infra.rotation.steps import Steps
from infra.secretstore import SecretStoreError, SopsStore, open_store, sops
from infra.secretstore.store import OBJECT
from tests.issuing import FileIssuer

STACK, ENVIRONMENT, OPERATION = "production", "production", "rotate-0123"
KEY, TOKEN = "openai-api-key", "metrics-token"
OLD = {KEY: "sk-proj-old", TOKEN: "metrics-old"}


class KilledError(BaseException):
    """The run ends here, without any clearing up."""


@dataclass
class Fuse:
    """Counts effects and ends the run before the one whose number is `at`; each has a before and an after."""

    at: int = 0
    seen: int = 0

    def tick(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            raise KilledError

    def around(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def fused(*arguments: Any, **named: Any) -> Any:
            self.tick()
            result = effect(*arguments, **named)
            self.tick()
            return result

        return fused


@dataclass
class World:
    """What outlives a run."""

    home: Path
    fuse: Fuse = field(default_factory=Fuse)

    @property
    def issuers(self) -> dict[str, FileIssuer]:
        return {name: FileIssuer(self.home / f"{name}.json") for name in OLD}

    @property
    def objects(self) -> DirectoryStore:
        return DirectoryStore(self.home / "record")

    @property
    def record(self) -> Record:
        return Record(self.objects)

    @property
    def store(self) -> SopsStore:
        return open_store({}, STACK, record=self.objects)

    def values(self, name: str) -> set[str]:
        return {key["value"] for key in self.issuers[name].keys().values()}

    def actions(self) -> list[str]:
        return [event.action for event in self.record.events() if event.action.startswith("rotate.")]

    def phases(self) -> dict[str, RotationPhase]:
        return {name: found.phase for name, found in self.record.state().rotations.items()}


class FusedIssuer(FileIssuer):
    """Dies around what it changes."""

    fuse: Fuse

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return super().__getattribute__("fuse").around(found) if name in ("create", "revoke") else found


def encrypted(document: dict[str, Any], recipients: tuple[str, ...]) -> bytes:
    age = [{"recipient": each} for each in recipients]
    return json.dumps({**document, "sops": {"age": age}}).encode()


def decrypted(data: bytes, _: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(data)
    del document["sops"]
    return document


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A record with two hosts, both secrets valid at their issuers, a store without real encryption."""
    identity = sops.new_identity()[0]
    monkeypatch.setenv("SOPS_AGE_KEY", identity)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sops, "encrypt", encrypted)
    monkeypatch.setattr(sops, "decrypt", decrypted)
    world = World(tmp_path)
    release = Release(
        image="registry.example/agents",
        digest=f"sha256:{'a' * 64}",
        git_sha="0" * 40,
        deployed_at=datetime(2026, 1, 2, tzinfo=UTC),
        by="alice",
    )
    world.record.bootstrap(
        release=release,
        hosts=["primary", "standby"],
        switches=dict.fromkeys(Switch, True),
        active_region="primary",
    )
    world.store.put_many(OLD, by="alice")
    for name, issuer in world.issuers.items():
        issuer.put(OLD[name])
    for name in ("put_if_absent", "put_if_match"):
        effect = getattr(DirectoryStore, name)

        def fused(self: DirectoryStore, key: str, *rest: Any, effect: Any = effect) -> Any:
            # Heartbeats and the lease are not what a rotation does.
            return (world.fuse.around(effect) if world.fuse.at else effect)(self, key, *rest)

        monkeypatch.setattr(DirectoryStore, name, fused)
    yield world


def steps(world: World, **changes: Any) -> Steps:
    """Steps of a run of the same command, which takes the lease first."""
    fuse, world.fuse = world.fuse, Fuse()
    record = world.record
    lease = record.acquire("rotate", operation_id=OPERATION, preempt=True)
    world.fuse = fuse

    def issuer(name: str) -> FusedIssuer:
        made = FusedIssuer(world.home / f"{name}.json")
        object.__setattr__(made, "fuse", world.fuse)
        return made

    given: dict[str, Any] = {
        "record": record,
        "store": world.store,
        "lease": lambda: record.held_lease(lease.token),
        "issuer": issuer,
        "checker": issuer,
        "readback": lambda _: [],
        "by": "ada",
        **changes,
    }
    return Steps(**given)


SLOTS = {"primary": Slot.GREEN, "standby": Slot.GREEN}


def rotate(taken: Steps, names: tuple[str, ...] = (KEY,)) -> None:
    """What the playbook does when all goes well."""
    journal = taken.journal
    if not journal:
        taken.begin(taken.old_ids(names), ENVIRONMENT)
    elif any(found.phase is RotationPhase.UNDOING for found in journal.values()):
        taken.withdraw()
        return
    taken.create()
    taken.offer(SLOTS)
    taken.verify()
    taken.promote()
    taken.revoke()


def undo(taken: Steps) -> None:
    """What the playbook does when something went wrong."""
    if taken.undo():
        taken.withdraw()


def rotated(world: World, name: str) -> None:
    """Assert that exactly one value is valid, and that it is another one and in use."""
    (value,) = world.values(name)
    assert value != OLD[name]
    assert world.store.get(name) == value
    assert len(world.store.values()[name]) == 1
    assert world.phases() == {}


def as_before(world: World, name: str) -> None:
    """Assert that the old value alone is valid and in use."""
    assert world.values(name) == {OLD[name]} == {world.store.get(name)}
    assert world.store.next(name) is None
    assert world.phases() == {}


def test_one_goes_through_all_phases_in_order(world: World) -> None:
    rotate(steps(world))
    rotated(world, KEY)
    assert world.values(TOKEN) == {OLD[TOKEN]}
    assert world.actions() == [
        f"rotate.{phase}"
        for phase in ("creating", "staged", "offered", "verified", "promoted", "revoked", "done")
    ]
    assert world.record.verify().ok


def test_several_go_together(world: World) -> None:
    rotate(steps(world), (KEY, TOKEN))
    rotated(world, KEY)
    rotated(world, TOKEN)
    (offered,) = [event for event in world.record.events() if event.action == "rotate.offered"]
    assert offered.details["secrets"] == {name: {"old": "key_1", "new": "key_2"} for name in (KEY, TOKEN)}


def test_again_and_again_leaves_one_valid_value_each_time(world: World) -> None:
    for _ in range(3):
        rotate(steps(world))
        (valid,) = world.values(KEY)
        assert world.store.get(KEY) == valid
    assert world.store.entries()[KEY].issued == "key_4"


def effects(world: World) -> int:
    """How many moments there are at which a run can be killed."""
    world.fuse = Fuse(at=10_000)
    rotate(steps(world), (KEY, TOKEN))
    return world.fuse.seen


MOST = 80
"""Moments that are tried; there are fewer."""


def test_all_moments_are_tried(world: World) -> None:
    assert MOST / 2 < effects(world) < MOST


@pytest.mark.parametrize("at", range(1, MOST))
def test_killed_at_any_moment_the_same_command_ends_it(world: World, at: int) -> None:
    world.fuse = Fuse(at=at)
    try:
        rotate(steps(world), (KEY, TOKEN))
    except KilledError:
        # Whatever happened: what is in use is valid.
        for name in OLD:
            assert world.store.get(name) in world.values(name)
        world.fuse = Fuse()
        rotate(steps(world), (KEY, TOKEN))
    else:
        assert at > world.fuse.seen, "it was to be killed"
    for name in OLD:
        rotated(world, name)
    assert world.record.verify().ok


@pytest.mark.parametrize("at", range(1, 36))
def test_killed_while_it_undoes_the_same_command_ends_that(world: World, at: int) -> None:
    first = steps(world)
    first.begin(first.old_ids((KEY, TOKEN)), ENVIRONMENT)
    first.create()
    first.offer(SLOTS)
    world.fuse = Fuse(at=at)
    killed = steps(world)
    try:
        undo(killed)
    except KilledError:
        world.fuse = Fuse()
        again = steps(world)
        if any(found.phase is RotationPhase.UNDOING for found in again.journal.values()):
            again.withdraw()
        else:
            undo(again)
    for name in OLD:
        as_before(world, name)


@pytest.mark.parametrize("how", ["refused", "down", "garbage"])
@pytest.mark.parametrize("call", ["create", "create_answer"])
def test_an_issuer_that_makes_none_changes_nothing(world: World, how: str, call: str) -> None:
    taken = steps(world)
    world.issuers[KEY].failing(**{call: how})
    with pytest.raises(IssuerError):
        rotate(taken, (TOKEN, KEY))
    assert world.store.get_many(OLD) == OLD
    undo(taken)
    as_before(world, TOKEN)
    if (call, how) == ("create_answer", "refused"):
        # It said no, and lied: nobody has that value, and its label is in the log.
        assert OLD[KEY] in world.values(KEY)
    else:
        as_before(world, KEY)


def test_an_issuer_that_is_down_altogether_is_asked_again_by_the_same_command(world: World) -> None:
    taken = steps(world)
    taken.begin(taken.old_ids((KEY,)), ENVIRONMENT)
    world.issuers[KEY].failing(create_answer="down", labelled="down", revoke="down")
    with pytest.raises(IssuerError):
        taken.create()
    with pytest.raises(IssuerError):
        undo(taken)
    assert world.phases() == {KEY: RotationPhase.UNDOING}
    assert world.store.get(KEY) == OLD[KEY]
    assert len(world.values(KEY)) == 2
    world.issuers[KEY].failing()
    rotate(steps(world))
    as_before(world, KEY)
    rotate(steps(world))
    rotated(world, KEY)


def test_an_issuer_that_does_not_answer_is_found_before_anything_is_begun(world: World) -> None:
    world.issuers[KEY].failing(current="down")
    taken = steps(world)
    with pytest.raises(IssuerError):
        taken.old_ids((KEY,))
    assert world.actions() == []


def test_a_value_that_its_issuer_does_not_know_can_not_be_replaced(world: World) -> None:
    world.store.put(KEY, "sk-proj-from-elsewhere", by="alice")
    with pytest.raises(RotationError, match="does not know the value in use of openai-api-key"):
        steps(world).old_ids((KEY,))


def test_a_new_value_that_is_refused_is_undone(world: World) -> None:
    taken = steps(world)
    taken.begin(taken.old_ids((KEY,)), ENVIRONMENT)
    taken.create()
    taken.offer(SLOTS)
    (new,) = world.values(KEY) - {OLD[KEY]}
    world.issuers[KEY].revoke("key_2")
    with pytest.raises(RotationError, match="the new value of openai-api-key is refused"):
        taken.verify()
    assert world.store.get(KEY) == OLD[KEY]
    undo(taken)
    as_before(world, KEY)
    assert new not in str(list(world.record.events()))


def test_an_old_value_that_stays_valid_is_said_and_revoked_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.rotation.steps.REFUSED_WITHIN", 0.3)
    world.issuers[KEY].sticky(OLD[KEY])
    taken = steps(world)
    with pytest.raises(RotationError, match=r"the old value of openai-api-key is still accepted"):
        rotate(taken)
    assert not taken.undo(), "the new one is in use"
    assert world.phases() == {KEY: RotationPhase.REVOKED}
    world.issuers[KEY].sticky()
    rotate(steps(world))
    rotated(world, KEY)


def test_a_store_that_can_not_be_written_leaves_the_old_value_in_use(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = steps(world)
    taken.begin(taken.old_ids((KEY,)), ENVIRONMENT)
    taken.create()
    taken.offer(SLOTS)
    taken.verify()
    write = DirectoryStore.put_if_match

    def refused(self: DirectoryStore, key: str, *rest: Any) -> Any:
        if key == OBJECT:
            raise StoreUnavailableError("access denied")
        return write(self, key, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "put_if_match", refused)
        with pytest.raises(StoreUnavailableError):
            taken.promote()
    assert world.store.get(KEY) == OLD[KEY]
    assert world.values(KEY) >= {OLD[KEY]}
    undo(taken)
    as_before(world, KEY)


def test_old_values_are_said_to_be_invalid_before_anybody_makes_them_so(world: World) -> None:
    taken = steps(world)
    taken.begin(taken.old_ids((KEY, TOKEN)), ENVIRONMENT)
    taken.create()
    taken.offer({})
    taken.verify()
    taken.promote()
    taken.retire()
    assert set(world.phases().values()) == {RotationPhase.REVOKED}
    assert {OLD[name] in world.values(name) for name in OLD} == {True}
    assert not taken.undo(), "there is no way back from here"
    taken.revoke()
    assert world.phases() == {}
    assert {OLD[name] in world.values(name) for name in OLD} == {False}


def test_nothing_is_revoked_that_a_fresh_process_does_not_read(world: World) -> None:
    taken = steps(world, readback=list)
    with pytest.raises(RotationError, match="a fresh process reads another value of openai-api-key"):
        rotate(taken)
    assert OLD[KEY] in world.values(KEY)
    assert not taken.undo()
    rotate(steps(world))
    rotated(world, KEY)


def test_who_lost_the_lease_changes_nothing_more(world: World) -> None:
    taken = steps(world)
    taken.begin(taken.old_ids((KEY,)), ENVIRONMENT)
    steps(world)
    with pytest.raises(LeaseLostError):
        taken.create()
    assert world.values(KEY) == {OLD[KEY]}


def test_no_value_is_in_the_record(world: World) -> None:
    world.issuers[KEY].failing(create_answer="down")
    taken = steps(world)
    with pytest.raises(IssuerError):
        rotate(taken)
    values = world.values(KEY)
    undo(taken)
    world.issuers[KEY].failing()
    rotate(steps(world))
    values |= world.values(KEY)
    log = "".join(event.model_dump_json() for event in world.record.events())
    assert [value for value in values if value in log] == []


def test_a_value_that_somebody_removed_from_the_store_is_not_promoted(world: World) -> None:
    taken = steps(world)
    taken.begin(taken.old_ids((KEY,)), ENVIRONMENT)
    taken.create()
    taken.offer(SLOTS)
    world.store.unstage(KEY)
    with pytest.raises(RotationError, match="somebody else removed it"):
        taken.verify()
    with pytest.raises(SecretStoreError, match="is not the value"):
        world.store.promote({KEY: "key_2"})


def test_what_only_hosts_can_tell_was_asked_of_them_before(world: World) -> None:
    class OnHosts(FileIssuer):
        def accepts(self, value: str) -> bool:
            raise OnHostsError(f"ask {TOKEN} on the hosts")

    def checker(name: str) -> FileIssuer:
        return OnHosts(world.issuers[name].file)

    rotate(steps(world, checker=checker), (TOKEN,))
    rotated(world, TOKEN)
