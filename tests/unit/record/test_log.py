"""The log: appended to by one at a time, never in disagreement with the state, and every damage found."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from infra.record import (
    ConflictError,
    CorruptRecordError,
    HostState,
    Maintenance,
    NotBootstrappedError,
    NotFoundError,
    Record,
    RecordError,
    Release,
    Result,
    Rotation,
    RotationPhase,
    Slot,
    State,
    Store,
    Stored,
    StoreUnavailableError,
    Switch,
    Window,
)
from infra.record.log import CHECKPOINT, event_key
from infra.record.model import Event, canonical, digest_of, now


def overwrite(store: Store, key: str, data: bytes) -> None:
    store.put_if_match(key, data, store.get(key).version)


class Rewritten:
    """A store in which objects were removed or replaced behind everybody's back."""

    def __init__(self, store: Store, removed: tuple[str, ...] = (), **replaced: bytes) -> None:
        self._store = store
        self._removed = removed
        self.replaced = replaced
        self.url = store.url
        self.put_if_absent = store.put_if_absent
        self.put_if_match = store.put_if_match
        self.delete = store.delete

    def get(self, key: str) -> Stored:
        if key in self._removed:
            raise NotFoundError(key)
        found = self._store.get(key)
        return Stored(self.replaced.get(key, found.data), found.version)

    def list(self, prefix: str) -> list[str]:
        return [key for key in self._store.list(prefix) if key not in self._removed]


@pytest.fixture
def busy(record: Record, digest: Callable[[str], str]) -> Record:
    """A record with ten events."""
    with record.lease("deploy", who="alice", why="release 2") as lease:
        lease.update("deploy", lambda s: s.with_slot("primary", Slot.GREEN, digest("b")), digest=digest("b"))
        lease.update("switch", lambda s: s.with_active_slot("primary", Slot.GREEN), duration=1.5)
        for number in range(5):
            lease.log("note", details={"number": number})
    assert [event.seq for event in record.events()] == list(range(1, 11))
    return record


def test_an_empty_record_says_what_to_do(empty: Record) -> None:
    assert not empty.is_bootstrapped()
    with pytest.raises(NotBootstrappedError, match="the first site play bootstraps it"):
        empty.state()
    with pytest.raises(NotBootstrappedError):
        empty.log("note")
    assert empty.verify().ok


def test_bootstrap_writes_the_first_state_once(
    empty: Record, release: Release, digest: Callable[[str], str]
) -> None:
    first: dict[str, Any] = {
        "hosts": ["primary", "standby"],
        "switches": dict.fromkeys(Switch, True),
        "active_region": "primary",
    }
    assert empty.bootstrap(release=release, **first)

    state = empty.state()
    assert state.release == release
    assert state.active_host == "primary"
    assert state.hosts["standby"].slots == {Slot.BLUE: digest("a"), Slot.GREEN: None}
    other = release.model_copy(update={"digest": digest("f")})
    assert not empty.bootstrap(release=other, **{**first, "switches": dict.fromkeys(Switch, False)})
    assert empty.state() == state
    assert [event.action for event in empty.events()] == ["bootstrap"]


def test_bootstrap_adds_hosts_that_are_new(
    record: Record, release: Release, digest: Callable[[str], str]
) -> None:
    before = record.state()

    changed = record.bootstrap(
        release=release.model_copy(update={"digest": digest("f")}),
        hosts=["primary", "third"],
        switches=dict.fromkeys(Switch, False),
        active_region="elsewhere",
    )

    after = record.state()
    assert changed
    assert after.hosts["third"].slots[Slot.BLUE] == digest("a")
    assert after.model_copy(update={"hosts": before.hosts}) == before
    assert set(after.hosts) == {"primary", "standby", "third"}


def test_bootstrap_refuses_what_is_no_state(empty: Record, release: Release) -> None:
    with pytest.raises(RecordError, match=r"missing: .*WHATSAPP_INTEGRATION_ENABLED"):
        empty.bootstrap(
            release=release, hosts=["a"], switches={"AI_REALTIME_ENABLED": True}, active_region="a"
        )
    with pytest.raises(RecordError, match="needs a host"):
        empty.bootstrap(release=release, hosts=[], switches={}, active_region="a")
    with pytest.raises(RecordError, match="NOT_A_SWITCH"):
        empty.bootstrap(release=release, hosts=["a"], switches={"NOT_A_SWITCH": True}, active_region="a")
    assert not empty.is_bootstrapped()


def test_two_bootstraps_at_once_make_one(store: Store, release: Release) -> None:
    barrier, done = threading.Barrier(4), []

    def run(host: str) -> None:
        barrier.wait()
        switches: dict[str, bool] = dict.fromkeys(Switch, True)
        done.append(
            Record(store).bootstrap(release=release, hosts=["one"], switches=switches, active_region=host)
        )

    threads = [threading.Thread(target=run, args=(host,)) for host in ("a", "b", "c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == [False, False, False, True]
    assert Record(store).verify().events == 1


def test_an_event_has_all_that_an_auditor_asks(busy: Record, digest: Callable[[str], str]) -> None:
    deploy, switch = list(busy.events(after=2))[:2]

    assert (deploy.action, deploy.who, deploy.digest, deploy.token) == ("deploy", "alice", digest("b"), 1)
    assert deploy.result is Result.OK
    assert deploy.at.utcoffset() == timedelta(0)
    assert deploy.host
    assert deploy.operation_id == switch.operation_id is not None
    assert switch.duration == 1.5
    assert switch.previous == deploy.hash
    assert deploy.state is not None
    assert deploy.state.hosts["primary"].slots[Slot.GREEN] == digest("b")


def test_writers_at_once_each_get_a_number_of_their_own(record: Record, store: Store) -> None:
    def write(name: str) -> None:
        mine = Record(store)
        for number in range(10):
            mine.log("note", who=name, details={"number": number})

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    events = list(record.events(after=1))
    assert [event.seq for event in events] == list(range(2, 32))
    for name in ("a", "b", "c"):
        assert [event.details["number"] for event in events if event.who == name] == list(range(10))
    assert record.verify().ok


def test_a_writer_that_dies_after_its_event_has_made_the_change(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with record.lease("kill-switch") as lease:
        before = store.get(CHECKPOINT).data
        monkeypatch.setattr(lease._record_log, "_advance", lambda *_: None)
        lease.update("off", lambda s: s.with_switches({Switch.AI_REALTIME_ENABLED: False}))
        monkeypatch.undo()
        assert store.get(CHECKPOINT).data == before

        assert Record(store).state().switches[Switch.AI_REALTIME_ENABLED] is False
        assert Record(store).verify().ok
        lease.log("note")

    assert json.loads(store.get(CHECKPOINT).data)["head"]["seq"] == 5
    assert record.state().switches[Switch.AI_REALTIME_ENABLED] is False
    assert record.verify().ok


def test_an_unreachable_store_after_the_event_does_not_undo_it(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*_: object) -> str:
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(store, "put_if_match", down)

    event = record.log("note")

    assert event.seq == 2
    assert "event 2 is written, its checkpoint is not yet: gone" in caplog.text
    assert list(record.events())[-1] == event


def test_a_store_that_goes_while_the_checkpoint_is_contended_does_not_undo_the_event(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*_: object) -> Stored:
        raise StoreUnavailableError("gone")

    def lost(*_: object) -> str:
        monkeypatch.setattr(store, "get", down)
        raise ConflictError("another was first")

    monkeypatch.setattr(store, "put_if_match", lost)

    event = record.log("note")

    monkeypatch.undo()
    assert "event 2 is written, its checkpoint is not yet: gone" in caplog.text
    assert list(record.events())[-1] == event


def test_a_checkpoint_never_goes_back(record: Record, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, kept = Record(store), []
    advance = slow._log._advance
    monkeypatch.setattr(slow._log, "_advance", lambda *arguments: kept.append(arguments))
    slow.log("slow")
    record.log("quick")

    advance(*kept[0])

    assert json.loads(store.get(CHECKPOINT).data)["head"]["seq"] == 3


def test_finds_a_tampered_event(busy: Record, store: Store) -> None:
    document = json.loads(store.get(event_key(4)).data)
    document["who"] = "mallory"
    overwrite(store, event_key(4), canonical(document))

    found = busy.verify()

    assert [(problem.seq, problem.kind) for problem in found.problems] == [(4, "tampered")]
    assert "event 4 was changed" in found.problems[0].message


def test_finds_an_event_that_was_replaced_with_a_fitting_hash(busy: Record, store: Store) -> None:
    document = json.loads(store.get(event_key(4)).data)
    document["who"] = "mallory"
    document["hash"] = digest_of(document)
    overwrite(store, event_key(4), canonical(document))

    found = busy.verify()

    assert [(problem.seq, problem.kind) for problem in found.problems] == [(5, "broken")]
    assert "event 5 does not continue event 4" in found.problems[0].message


def test_finds_a_chain_that_was_forged_to_its_end(busy: Record, store: Store) -> None:
    previous = store_hash(store, 3)
    for seq in range(4, 11):
        document = json.loads(store.get(event_key(seq)).data)
        document["who"], document["previous"] = "mallory", previous
        document["hash"] = previous = digest_of(document)
        overwrite(store, event_key(seq), canonical(document))

    found = busy.verify()

    assert [(problem.seq, problem.kind) for problem in found.problems] == [(10, "tampered")]
    assert "anchors" in found.problems[0].message


def store_hash(store: Store, seq: int) -> str:
    value: str = json.loads(store.get(event_key(seq)).data)["hash"]
    return value


def test_finds_white_space_and_double_keys(busy: Record, store: Store) -> None:
    data = store.get(event_key(6)).data
    overwrite(store, event_key(6), data.replace(b'{"action"', b'{"action":"quiet","action"', 1))

    assert [(problem.seq, problem.kind) for problem in busy.verify().problems] == [(6, "tampered")]


@pytest.mark.parametrize("seq", [1, 5, 9])
def test_finds_a_missing_event(busy: Record, store: Store, seq: int) -> None:
    found = Record(Rewritten(store, (event_key(seq),))).verify()

    assert [(problem.seq, problem.kind) for problem in found.problems] == [(seq, "missing")]


def test_finds_a_tail_that_was_cut_off(busy: Record, store: Store) -> None:
    found = Record(Rewritten(store, (event_key(9), event_key(10)))).verify()

    assert [(problem.seq, problem.kind) for problem in found.problems] == [(10, "missing")]
    assert "events 9 to 10 are missing at the end" in found.problems[0].message


def test_finds_events_that_changed_places(busy: Record, store: Store) -> None:
    sixth, seventh = store.get(event_key(6)).data, store.get(event_key(7)).data
    overwrite(store, event_key(6), seventh)
    overwrite(store, event_key(7), sixth)

    found = busy.verify()

    moved = [(problem.seq, problem.kind) for problem in found.problems if problem.kind == "moved"]
    assert moved == [(6, "moved"), (7, "moved")]
    assert "event 7 stands in the place of event 6" in found.problems[0].message


def test_finds_a_state_that_no_event_made(busy: Record, store: Store) -> None:
    document = json.loads(store.get(CHECKPOINT).data)
    document["state"]["switches"]["FEATURE_AGENT_CHAT"] = False
    overwrite(store, CHECKPOINT, canonical(document))

    found = busy.verify()

    assert [(problem.seq, problem.kind) for problem in found.problems] == [(None, "checkpoint")]
    assert "another state than event 10" in found.problems[0].message


def test_finds_a_missing_anchor_and_foreign_objects(busy: Record, store: Store) -> None:
    store.put_if_absent("events/note.txt", b"")

    found = Record(Rewritten(store, (CHECKPOINT,))).verify()

    assert {problem.kind for problem in found.problems} == {"checkpoint", "foreign"}


def test_an_event_written_during_the_check_is_no_problem(busy: Record, store: Store) -> None:
    class Growing(Rewritten):
        def list(self, prefix: str) -> list[str]:
            found = super().list(prefix)
            Record(store).log("note")
            return found

    assert Record(Growing(store)).verify().ok
    assert busy.verify().ok


def test_nothing_is_built_on_a_damaged_end(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record._log, "_advance", lambda *_: None)
    record.log("note")
    monkeypatch.undo()
    overwrite(store, event_key(2), store.get(event_key(2)).data.replace(b'"note"', b'"nope"'))

    with pytest.raises(CorruptRecordError, match="event 2 was changed"):
        record.log("more")
    overwrite(store, CHECKPOINT, b"{}")
    with pytest.raises(CorruptRecordError, match=r"state\.json .* is not a checkpoint"):
        record.state()


def test_gives_up_when_others_are_always_first(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> str:
        raise ConflictError("late")

    monkeypatch.setattr(store, "put_if_absent", late)
    monkeypatch.setattr("infra.record.log._BUSY_AFTER", 0.05)

    with pytest.raises(StoreUnavailableError, match="other writers were first"):
        record.log("note")


def test_state_changes_are_checked(record: Record, digest: Callable[[str], str], release: Release) -> None:
    state = record.state()

    second = release.model_copy(update={"digest": digest("b")})
    assert state.with_release(second).previous_releases == (release,)
    assert state.with_release(release) is state
    with pytest.raises(ValueError, match="the active slot must hold a digest"):
        state.with_active_slot("primary", Slot.GREEN)
    with pytest.raises(ValueError, match="sha256"):
        state.with_slot("primary", Slot.GREEN, "latest")
    with pytest.raises(KeyError, match="it knows primary, standby"):
        state.with_slot("third", Slot.GREEN, digest("b"))
    with pytest.raises(ValueError, match="none of the hosts"):
        state.with_active("fra1", "third")
    assert state.with_active("fra1", "standby").active_host == "standby"
    assert state.changed(maintenance=Maintenance(enabled=True, message="soon")).maintenance.enabled


def test_runtime_is_what_roles_need(record: Record, digest: Callable[[str], str]) -> None:
    state = record.state().with_switches({Switch.FEATURE_AGENT_VOICE: False})
    image = f"registry.example/agents@{digest('a')}"

    assert state.runtime("primary") == {
        "active_slot": "blue",
        "running": ["blue"],
        "fallback": None,
        "images": {"blue": image, "green": image},
        "switches": {switch.value: "true" for switch in Switch} | {"FEATURE_AGENT_VOICE": "false"},
        "maintenance": False,
    }


def test_maintenance_keeps_since_when_and_its_window(record: Record) -> None:
    window = Window(at=now(), announced_at=now(), why="updates", by="ops")
    on = record.state().with_window(window).with_maintenance(True, message="updates", by="ops")

    assert on.runtime("primary")["maintenance"] is True
    assert (on.maintenance.message, on.maintenance.by) == ("updates", "ops")
    assert on.with_maintenance(True, message="again", by="other") == on
    off = on.with_maintenance(False, by="ops")
    assert off.maintenance == Maintenance(window=window)
    assert off.with_window(None).maintenance == Maintenance()
    assert off.with_window_completed().maintenance == Maintenance(completed=window.at)
    stepped = off.with_window_step("backup")
    assert stepped.maintenance.window == window.model_copy(update={"done": ("backup",)})
    assert stepped.with_window_step("backup") is stepped
    with pytest.raises(ValueError, match="nobody has planned"):
        record.state().with_window_step("backup")


def rotation(phase: RotationPhase, **fields: Any) -> Rotation:
    return Rotation(operation="rotate-1", phase=phase, label="icupa-test-1", started_at=now(), **fields)


def test_rotations_come_and_go_by_the_name_of_the_secret(record: Record) -> None:
    begun = rotation(RotationPhase.CREATING)
    state = record.state().with_rotations({"openai-api-key": begun, "metrics-token": begun})
    staged = begun.changed(phase=RotationPhase.STAGED, new_id="key_2")
    state = state.with_rotations({"openai-api-key": staged, "metrics-token": None})
    with record.lease("test") as held:
        held.update("rotate.staged", lambda found: found.with_rotations(state.rotations))
    assert record.state().rotations == {"openai-api-key": staged}
    assert record.verify().ok


@pytest.mark.parametrize("phase", list(RotationPhase))
def test_hosts_get_the_new_value_from_the_offer_until_the_store_gives_it(phase: RotationPhase) -> None:
    wanted = {RotationPhase.OFFERED, RotationPhase.VERIFIED, RotationPhase.PROMOTED}
    assert rotation(phase).hosts_get_new is (phase in wanted)


def test_a_slot_with_a_value_that_nobody_tried_gets_no_requests(record: Record) -> None:
    both = record.state().with_slot("primary", Slot.GREEN, record.state().release.digest)
    both = both.with_running("primary", *Slot)
    assert both.runtime("primary")["fallback"] == "green"

    def with_phase(phase: RotationPhase) -> State:
        found = rotation(phase, slots={"primary": Slot.GREEN})
        return both.with_rotations({"openai-api-key": found})

    assert with_phase(RotationPhase.OFFERED).runtime("primary")["fallback"] is None
    switched = with_phase(RotationPhase.OFFERED).with_active_slot("primary", Slot.GREEN)
    assert switched.runtime("primary")["fallback"] == "blue"


def test_a_record_from_before_there_were_rotations_is_read_and_goes_on(record: Record, store: Store) -> None:
    """As it was written then: an event and a checkpoint whose state has no such key."""
    state = json.loads(store.get(CHECKPOINT).data)["state"]
    del state["rotations"]
    event = json.loads(store.get(event_key(1)).data)
    event["state"] = state
    event["hash"] = digest_of(event)
    overwrite(store, event_key(1), canonical(event))
    head = {"seq": 1, "hash": event["hash"]}
    overwrite(store, CHECKPOINT, canonical({"head": head, "state": state}))

    old = Record(store)

    assert old.state().rotations == {}
    assert old.verify().ok
    with old.lease("rotate") as held:
        held.update(
            "rotate.creating",
            lambda found: found.with_rotations({"openai-api-key": rotation(RotationPhase.CREATING)}),
        )
    assert list(Record(store).state().rotations) == ["openai-api-key"]
    assert old.verify().ok


def test_an_event_survives_its_encoding(busy: Record) -> None:
    for event in busy.events():
        assert Event.model_validate_json(event.encode()) == event
        assert event.hash == digest_of(json.loads(event.encode()))


def test_both_slots_run_while_one_takes_over(record: Record, digest: Callable[[str], str]) -> None:
    old, new = digest("a"), digest("b")
    started = (
        record.state().with_slot("primary", Slot.GREEN, new).with_running("primary", Slot.GREEN, Slot.BLUE)
    )
    switched = started.with_active_slot("primary", Slot.GREEN)

    assert started.runtime("primary")["running"] == ["blue", "green"]
    assert started.runtime("primary")["fallback"] is None, "what only starts gets no requests"
    assert switched.runtime("primary")["fallback"] == "blue", "the last good release may answer in need"
    assert started.host("primary").digest == old
    assert started.host("primary").digests == {old, new}
    assert switched.with_running("primary", Slot.GREEN).runtime("primary")["running"] == ["green"]
    assert switched.host("standby").running == (Slot.BLUE,)


def test_only_slots_that_hold_something_run(record: Record) -> None:
    state = record.state()
    with pytest.raises(ValueError, match="a slot that runs must hold a digest"):
        state.with_running("primary", Slot.BLUE, Slot.GREEN)
    with pytest.raises(ValueError, match="the active slot must run"):
        state.with_slot("primary", Slot.GREEN, state.release.digest).with_running("primary", Slot.GREEN)


def test_a_host_of_an_older_record_runs_its_active_slot(digest: Callable[[str], str]) -> None:
    stored = {"active_slot": "green", "slots": {"blue": None, "green": digest("a")}}
    assert HostState.model_validate(stored).running == (Slot.GREEN,)


def test_a_release_that_was_given_up_is_no_aim_of_a_rollback(
    record: Record, digest: Callable[[str], str], release: Release
) -> None:
    second, third = (release.model_copy(update={"digest": digest(name)}) for name in "bc")
    state = record.state().with_release(second).with_release(third)

    assert state.with_release_undone(second).previous_releases == (release,)
    assert state.with_release_undone(release).previous_releases == ()
    other = release.model_copy(update={"digest": digest("d")})
    assert state.with_release_undone(other).previous_releases == (second, release)

    served_before = state.with_release(second).with_release(third)
    assert served_before.with_release_undone(second).previous_releases == (release,)
