"""The lease: one holder, heartbeats, expiry, and tokens that fence the former holder off."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from infra.record import (
    Lease,
    LeaseHeldError,
    LeaseLostError,
    Record,
    Result,
    Store,
    StoreUnavailableError,
    Switch,
    process,
)
from infra.record import lease as lease_module
from infra.record.lease import CLOCK_SKEW, SHORTEST_TTL, ends_at

TTL = 30.0


class Clock:
    """The wall clock that others see."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now().astimezone() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("infra.record.lease.now", clock)
    monkeypatch.setattr("infra.record.record.now", clock)
    return clock


def expire(clock: Clock, seconds: float = TTL) -> None:
    clock.ahead += timedelta(seconds=seconds) + CLOCK_SKEW + timedelta(seconds=0.1)


def turn_off(record: Record, lease: Lease) -> None:
    lease.update("off", lambda state: state.with_switches({Switch.FEATURE_AGENT_CHAT: False}))


def test_is_taken_used_and_given_back(record: Record) -> None:
    with record.lease("deploy", who="alice", operation_id="op-1", why="release 2") as lease:
        lock = record.state().lock
        assert lock is not None
        assert (lock.token, lock.holder.who, lock.holder.operation_id) == (lease.token, "alice", "op-1")
        turn_off(record, lease)

    state = record.state()
    assert state.lock is None
    assert state.fencing_token == 1
    assert state.switches[Switch.FEATURE_AGENT_CHAT] is False
    actions = [(event.action, event.token, event.operation_id) for event in record.events(after=1)]
    assert actions == [("lease.acquire", 1, "op-1"), ("off", 1, "op-1"), ("lease.release", 1, "op-1")]


def test_is_refused_while_held_with_the_holder_named(record: Record) -> None:
    with (
        record.lease("deploy", who="alice", operation_id="op-1", why="release 2"),
        pytest.raises(
            LeaseHeldError, match=r"alice on .* for deploy \(op-1\), since .* UTC: release 2; .* lasts"
        ),
    ):
        record.lease("rollback", who="bob")

    assert record.lease("rollback", who="bob").token == 2


def test_naming_the_owner_does_not_take_a_living_lease(record: Record) -> None:
    record.lease("deploy", who="alice", operation_id="op-1")

    with pytest.raises(LeaseHeldError):
        record.lease("rollback", who="bob", take_from="alice")
    with pytest.raises(LeaseHeldError):
        record.lease("deploy", who="alice", operation_id="op-1")


def test_is_given_back_when_the_operation_fails(record: Record) -> None:
    with pytest.raises(RuntimeError, match="broken"), record.lease("deploy"):
        raise RuntimeError("broken")

    assert record.state().lock is None
    assert list(record.events())[-1].result is Result.FAILED


def test_over_it_is_resumed_by_the_same_operation(record: Record, clock: Clock) -> None:
    first = record.acquire("deploy", who="alice", operation_id="op-1", ttl=TTL)
    expire(clock)

    second = record.acquire("deploy", who="alice", operation_id="op-1", ttl=TTL)

    assert second.token == first.token + 1
    assert list(record.events())[-1].action == "lease.resume"


def test_over_anybody_else_must_name_its_owner(record: Record, clock: Clock) -> None:
    record.acquire("deploy", who="alice", operation_id="op-1", ttl=TTL)
    expire(clock)

    with pytest.raises(
        LeaseHeldError, match=r"it is over: take it by naming its owner \(take_from='alice'\)"
    ):
        record.acquire("rollback", who="bob")
    with pytest.raises(LeaseHeldError):
        record.acquire("rollback", who="bob", take_from="carol")
    record.acquire("rollback", who="bob", take_from="alice")

    event = list(record.events())[-1]
    assert event.action == "lease.take"
    assert event.details["from"]["operation_id"] == "op-1"


def test_is_not_over_within_the_difference_of_clocks(record: Record, clock: Clock) -> None:
    record.acquire("deploy", who="alice", ttl=TTL)
    clock.ahead = timedelta(seconds=TTL) + CLOCK_SKEW - timedelta(seconds=1)

    with pytest.raises(LeaseHeldError, match="lasts until"):
        record.acquire("rollback", who="bob", take_from="alice")


def test_the_former_holder_is_fenced_off(record: Record, clock: Clock) -> None:
    former = record.acquire("deploy", who="alice", operation_id="op-1", ttl=TTL)
    expire(clock)
    record.acquire("rollback", who="bob", take_from="alice", ttl=TTL)
    events = record.verify().events

    with pytest.raises(LeaseLostError, match=r"token 1: bob took it for rollback on .*, token 2"):
        turn_off(record, former)
    with pytest.raises(LeaseLostError):
        former.log("note")
    with pytest.raises(LeaseLostError):
        former.renew()
    with pytest.raises(LeaseLostError):
        former.check()
    former.release()

    assert record.verify().events == events
    lock = record.state().lock
    assert lock is not None
    assert lock.holder.who == "bob"
    assert record.state().switches[Switch.FEATURE_AGENT_CHAT] is True


def test_a_holder_stopped_between_reading_and_writing_is_fenced_off(record: Record, store: Store) -> None:
    former = record.acquire("deploy", who="alice", ttl=TTL)
    taken: list[Lease] = []

    def change(state: object) -> object:
        if not taken:
            taken.append(Record(store).acquire("failover", who="bob", preempt=True))
        return state.with_switches({Switch.FEATURE_AGENT_CHAT: False})  # type: ignore[attr-defined]

    with pytest.raises(LeaseLostError, match="bob took it for failover"):
        former.update("off", change)  # type: ignore[arg-type]

    assert record.state().switches[Switch.FEATURE_AGENT_CHAT] is True
    assert record.verify().ok


def test_kill_switches_pre_empt(record: Record) -> None:
    former = record.acquire("deploy", who="alice", ttl=TTL)

    with record.lease("kill-switch", who="bob", preempt=True) as lease:
        turn_off(record, lease)

    with pytest.raises(LeaseLostError, match="it was released"):
        former.log("note")
    assert next(event.action for event in record.events(after=2)) == "lease.preempt"
    assert record.verify().ok


def test_heartbeats_extend_it(record: Record, clock: Clock) -> None:
    lease = record.acquire("deploy", who="alice", ttl=TTL)
    for _ in range(3):
        clock.ahead += timedelta(seconds=TTL - 1)
        lease.renew()

    with pytest.raises(LeaseHeldError):
        record.acquire("rollback", who="bob", take_from="alice")
    assert record.verify().events == 2


def test_heartbeats_run_while_the_block_runs(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_BEATS_PER_TTL", SHORTEST_TTL / 0.02)
    with record.lease("deploy", ttl=SHORTEST_TTL) as lease:
        lock = record.state().lock
        assert lock is not None
        first = ends_at(record._log, lock)
        deadline = time.monotonic() + 5
        while ends_at(record._log, lock) <= first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        thread = lease._thread
        assert thread is not None
        assert thread.is_alive()
    assert not thread.is_alive()


def test_a_taken_lease_stops_its_holder_before_the_next_step(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_BEATS_PER_TTL", SHORTEST_TTL / 0.02)
    with pytest.raises(LeaseLostError, match="bob took it"), record.lease("deploy", who="alice") as lease:
        Record(store).acquire("failover", who="bob", preempt=True)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            lease.check()
            time.sleep(0.01)


def test_a_pre_empted_lease_is_not_held_for_a_single_further_step(record: Record, store: Store) -> None:
    lease = record.acquire("deploy", who="alice")
    lease.check()
    Record(store).acquire("kill-switch", who="bob", preempt=True)

    with pytest.raises(LeaseLostError, match="bob took it"):
        lease.check()


def test_a_heartbeat_too_late_does_not_keep_the_lease_from_who_judged_it_over(
    record: Record, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = record.acquire("deploy", who="alice", operation_id="op-1", ttl=TTL)
    expire(clock)
    judge, judged = lease_module.is_over, []

    def judge_and_be_overtaken(*arguments: Any) -> bool:
        over = judge(*arguments)
        judged.append(over)
        if len(judged) == 1:
            late.renew()
        return over

    monkeypatch.setattr(lease_module, "is_over", judge_and_be_overtaken)
    with pytest.raises(LeaseHeldError):
        Record(store).acquire("rollback", who="bob", take_from="alice", ttl=TTL)

    assert judged == [True, False]
    late.check()
    assert [event.action for event in record.events(after=2)] == ["lease.renew"]


def test_time_that_the_machine_slept_counts(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> str:
        raise StoreUnavailableError("gone")

    lease = record.acquire("deploy", ttl=SHORTEST_TTL)
    monkeypatch.setattr(store, "put_if_match", down)
    awake = time.clock_gettime
    asleep = {time.CLOCK_BOOTTIME: 3600.0}
    monkeypatch.setattr("time.clock_gettime", lambda clock: awake(clock) + asleep.get(clock, 0.0))

    with pytest.raises(LeaseLostError, match="could not be renewed in time: gone"):
        lease.check()


def test_a_store_that_is_gone_stops_the_holder_in_time(
    record: Record, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> str:
        raise StoreUnavailableError("gone")

    lease = record.acquire("deploy", ttl=SHORTEST_TTL)
    monkeypatch.setattr(store, "put_if_match", down)
    lease.check()
    later = lease_module._elapsed() + SHORTEST_TTL
    monkeypatch.setattr(lease_module, "_elapsed", lambda: later)

    with pytest.raises(LeaseLostError, match="could not be renewed in time: gone"):
        lease.check()


def test_a_dead_process_need_not_be_waited_for(record: Record, store: Store) -> None:
    child = subprocess.Popen(["sleep", "60"])
    record.acquire("deploy", who="alice", operation_id="op-1", pid=child.pid)
    with pytest.raises(LeaseHeldError):
        record.acquire("deploy", who="alice", operation_id="op-1")
    child.send_signal(signal.SIGKILL)
    child.wait()

    assert record.acquire("deploy", who="alice", operation_id="op-1").token == 2


def test_processes_are_told_apart() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    name = process.identify(child.pid)
    assert name is not None
    host = __import__("socket").gethostname()
    assert not process.is_dead(name, host)
    assert not process.is_dead(None, host)
    child.communicate()

    assert process.identify(child.pid) is None
    assert process.is_dead(name, host)
    assert not process.is_dead(name, "elsewhere"), "another machine's processes can't be seen"
    assert not process.is_dead("other-boot/" + name.partition("/")[2], host)
    assert not process.is_dead("nonsense", host)


def test_a_process_that_proc_hides_is_not_seen_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"])
    name, host = process.identify(child.pid), socket.gethostname()
    child.kill()
    child.wait()
    assert process.is_dead(name, host)

    def another_users(pid: int, number: int) -> None:
        assert (pid, number) == (child.pid, 0)
        raise PermissionError

    monkeypatch.setattr("os.kill", another_users)
    assert not process.is_dead(name, host)


def test_a_damaged_heartbeat_keeps_no_kill_switch_out_and_is_mended(record: Record, store: Store) -> None:
    former = record.acquire("deploy", who="alice", ttl=TTL)
    store.put_if_match(lease_module.OBJECT, b"{", store.get(lease_module.OBJECT).version)
    with pytest.raises(LeaseHeldError):
        record.acquire("rollback", who="bob", take_from="alice")
    former.renew()
    assert b'"token":1' in store.get(lease_module.OBJECT).data
    store.put_if_match(lease_module.OBJECT, b"{", store.get(lease_module.OBJECT).version)

    assert record.acquire("kill-switch", who="bob", preempt=True).token == 2


def test_waits_for_it(record: Record) -> None:
    first = record.acquire("deploy", who="alice")
    began = time.monotonic()
    with pytest.raises(LeaseHeldError):
        record.acquire("rollback", who="bob", wait=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    first.release()

    assert record.acquire("rollback", who="bob", wait=0.3).token == 2


def test_another_process_of_the_operation_uses_it_by_its_token(record: Record, store: Store) -> None:
    token = record.acquire("deploy", who="alice", operation_id="op-1").token

    other = Record(store).held_lease(token)
    turn_off(record, other)
    other.release()

    assert record.state().lock is None
    with pytest.raises(LeaseLostError, match="nobody holds the lease with token 1"):
        record.held_lease(token)


def test_a_change_can_not_forge_the_lock(record: Record) -> None:
    with (
        record.lease("deploy") as lease,
        pytest.raises(ValueError, match="leave lock and fencing_token alone"),
    ):
        lease.update("free", lambda state: state.changed(lock=None))


def test_refuses_a_ttl_below_the_difference_of_clocks(record: Record) -> None:
    with pytest.raises(ValueError, match="ttl must be at least 12 s"):
        record.lease("deploy", ttl=5)


def test_who_lost_the_lease_is_told_to_whom_also_after_that_one_gave_it_back(record: Record) -> None:
    lost = record.acquire("deploy", who="alice")
    with record.lease("switch", who="bob", preempt=True):
        pass
    with pytest.raises(LeaseLostError, match="any more: bob took it for switch, and gave it back"):
        record.held_lease(lost.token)
