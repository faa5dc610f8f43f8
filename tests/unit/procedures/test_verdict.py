"""The block at the end of a procedure, and its exit code."""

from __future__ import annotations

import pytest

from infra.procedures.operation import operation_id
from infra.procedures.verdict import EXIT_CODES, Summary, took
from infra.record import Result


def block(result: Result | None, **more: object) -> str:
    fields = {"name": "deploy", "operation_id": "deploy-1", "message": "", "done": (), "took": 61.4}
    return Summary(**{**fields, **more}, result=result).render()  # type: ignore[arg-type]


def test_every_result_that_an_operation_can_end_with_has_an_exit_code() -> None:
    assert EXIT_CODES.keys() == set(Result) - {Result.STARTED}
    assert {result.value: int(code) for result, code in EXIT_CODES.items()} == {
        "ok": 0,
        "failed": 2,
        "rolled-back": 10,
        "rollback-failed": 11,
        "uncertain": 12,
    }


def test_says_what_was_done_how_long_it_took_and_what_to_do() -> None:
    text = block(
        Result.ROLLED_BACK, message="green never became healthy", done=["started green", "stopped it"]
    )
    assert text.splitlines()[1:-1] == [
        "deploy: ROLLED BACK",
        "  operation deploy-1",
        "  message   green never became healthy",
        "  did       started green",
        "  did       stopped it",
        "  took      0:01:01",
        "  next      all is as before; the evidence says why, then run it again with what is put right",
    ]


def test_a_procedure_may_say_better_what_to_do() -> None:
    assert "  next      call the database team\n" in block(Result.UNCERTAIN, next="call the database team")


def test_refused_is_said_as_such() -> None:
    text = block(None, message="ada holds the lease", operation_id="")
    assert "deploy: REFUSED\n  message   ada holds the lease\n" in text
    assert "nothing was changed" in text
    assert int(Summary("deploy", "", None, "", (), 0).exit_code) == 2


def test_check_mode_does_not_claim_to_have_done_anything() -> None:
    text = block(Result.OK, check=True, done=["start green"])
    assert "deploy: OK (check mode)\n" in text
    assert "  would do  start green\n" in text
    assert "  did " not in text


def test_long_and_broken_lines_are_wrapped_below_their_label() -> None:
    lines = block(Result.FAILED, message="word\n" * 60).splitlines()
    assert max(map(len, lines)) == 110
    assert lines[4].startswith(" " * 12 + "word")


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.96, "60.0 s"), (60, "0:01:00")])
def test_durations(seconds: float, text: str) -> None:
    assert took(seconds) == text


def test_the_same_command_has_the_same_id_and_no_other_has() -> None:
    same = operation_id("deploy", "local", {"release": "a", "refresh": False})
    assert same == operation_id("deploy", "local", {"refresh": False, "release": "a"})
    assert same.startswith("deploy-")
    others = {
        operation_id("deploy", "local", {"release": "b", "refresh": False}),
        operation_id("deploy", "staging", {"release": "a", "refresh": False}),
        operation_id("rollback", "local", {"release": "a", "refresh": False}),
    }
    assert len(others | {same}) == 4
