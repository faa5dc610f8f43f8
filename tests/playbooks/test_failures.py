"""What is kept of failures: each one, with its evidence, whatever happened to the lease."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.procedures.operation import Operation, begin, end, fail
from infra.record import LeaseLostError, Record, Result
from infra.record.evidence import LARGEST
from tests.controller import Controller


@pytest.fixture
def record(controller: Controller) -> Record:
    return controller.record


@pytest.fixture
def operation(record: Record) -> Operation:
    return begin(record, "deploy", stack="test", parameters={"release": "a"}, pid=os.getpid(), why="drill")


def test_evidence_that_cannot_be_saved_is_named_and_stops_nothing(
    record: Record, operation: Operation
) -> None:
    pieces = {"large.log": b"x" * (LARGEST + 1), "small.log": b"x"}
    failure = fail(record, operation, "start", "it does not start", pieces)
    assert [piece.key for piece in failure.evidence] == [f"evidence/{operation.id}/small.log"]
    *_, event = record.events()
    assert (event.action, event.result, event.why) == ("deploy.failed", Result.FAILED, "it does not start")
    assert event.details["step"] == "start"
    assert "at most" in event.details["unsaved"]["large.log"]
    assert record.verify().ok


def test_a_failure_after_the_lease_was_lost_is_logged_as_such(record: Record, operation: Operation) -> None:
    record.acquire("switch", who="carol", preempt=True)
    fail(record, operation, "switch", "refused", {})
    assert end(record, operation, Result.ROLLED_BACK, "all is back", {}) is Result.UNCERTAIN
    *_, failed, ended = record.events()
    assert [(event.action, event.token, event.details["lease"]) for event in (failed, ended)] == [
        ("deploy.failed", None, "lost"),
        ("deploy.end", None, "lost"),
    ]
    assert ended.details["intended"] == "rolled-back"
    assert "carol took it for switch" in ended.why
    lock = record.state().lock
    assert lock is not None
    assert lock.holder.who == "carol", "the lease of another is left alone"


def test_the_end_gives_the_lease_back(record: Record, operation: Operation) -> None:
    assert end(record, operation, Result.OK, "", {"digest": f"sha256:{'2' * 64}"}) is Result.OK
    with pytest.raises(LeaseLostError):
        record.held_lease(operation.token)
    *_, ended, released = record.events()
    assert (ended.action, released.action) == ("deploy.end", "lease.release")
    assert ended.digest == f"sha256:{'2' * 64}"


def test_every_failure_is_kept_and_the_first_is_remembered(controller: Controller, tmp_path: Path) -> None:
    playbook = tmp_path / "twice.yml"
    playbook.write_text(
        "- hosts: localhost\n"
        "  connection: local\n"
        "  tasks:\n"
        "    - operation: {state: begin, operation: trial}\n"
        "    - operation: {state: fail, step: one, message: first, evidence: {a.log: 'a'}}\n"
        "    - operation: {state: fail, step: two, message: second, evidence: {b.log: 'b'}}\n"
        "    - operation: {state: end, result: rolled-back, message: '{{ icupa_failure.message }}'}\n"
    )
    done = controller.play(playbook)
    assert done.returncode == 10, done.stdout
    failed = [event for event in controller.record.events() if event.action == "trial.failed"]
    assert [(event.why, len(event.details["evidence"])) for event in failed] == [("first", 1), ("second", 1)]
    block = done.stdout.rpartition("trial: ROLLED BACK")[2]
    assert "  message   first\n" in block
    assert "failed at two: second" in block
