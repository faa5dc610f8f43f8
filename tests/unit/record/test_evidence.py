"""Evidence: written once, bounded, and found when it was changed."""

from __future__ import annotations

import pytest

from infra.record import CorruptRecordError, Evidence, Record, RecordError, Result
from infra.record.evidence import LARGEST


def log(record: Record, *pieces: Evidence) -> int:
    """Log an event that names evidence; its number."""
    details = {"evidence": [piece.model_dump(mode="json") for piece in pieces]}
    return record.log("deploy.failed", result=Result.FAILED, details=details).seq


def test_a_piece_is_read_back_by_what_the_event_names(record: Record) -> None:
    saved = record.put_evidence("deploy-1", "primary.json", b'{"health": "down"}')
    assert saved.key == "evidence/deploy-1/primary.json"
    log(record, saved)
    assert record.evidence(saved) == b'{"health": "down"}'
    assert record.verify().ok


def test_a_second_run_of_the_operation_keeps_both(record: Record) -> None:
    first = record.put_evidence("deploy-1", "primary.json", b"first")
    assert record.put_evidence("deploy-1", "primary.json", b"first") == first
    second = record.put_evidence("deploy-1", "primary.json", b"second")
    assert second.key == "evidence/deploy-1/primary-2.json"
    assert (record.evidence(first), record.evidence(second)) == (b"first", b"second")


def test_what_is_too_large_is_refused(record: Record) -> None:
    record.put_evidence("deploy-1", "largest.log", b"x" * LARGEST)
    with pytest.raises(RecordError, match=r"large.log has 1048577 bytes, at most 1048576 are kept"):
        record.put_evidence("deploy-1", "large.log", b"x" * (LARGEST + 1))


@pytest.mark.parametrize("name", ["", "../state.json", "a/b", ".hidden", "x" * 129])
def test_names_that_leave_the_folder_are_refused(record: Record, name: str) -> None:
    with pytest.raises(RecordError, match="evidence: "):
        record.put_evidence("deploy-1", name, b"x")
    with pytest.raises(RecordError, match="evidence: "):
        record.put_evidence(name, "primary.json", b"x")
    assert record.store.list("evidence") == []


def test_a_changed_piece_is_found(record: Record) -> None:
    saved = record.put_evidence("deploy-1", "primary.json", b"true")
    seq = log(record, saved)
    record.store.put_if_match(saved.key, b"false", record.store.get(saved.key).version)
    (problem,) = record.verify().problems
    assert (problem.seq, problem.kind) == (seq, "evidence")
    assert "was changed" in problem.message
    with pytest.raises(CorruptRecordError, match="was changed"):
        record.evidence(saved)


def test_a_missing_piece_is_found(record: Record) -> None:
    saved = record.put_evidence("deploy-1", "primary.json", b"true")
    seq = log(record, saved.model_copy(update={"key": "evidence/deploy-1/gone.json"}))
    (problem,) = record.verify().problems
    assert (problem.seq, problem.kind) == (seq, "evidence")
    assert "is missing" in problem.message
