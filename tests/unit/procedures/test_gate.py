"""The rollout's gate: what counts as healthy, as a breach, and as nothing (DEP-3)."""

from __future__ import annotations

from typing import Any

import pytest

from infra.config.model import Rollout
from infra.procedures.gate import Figures, GateError, Verdict, figures, judge, judge_all, queries

FLAG = "ai_waiter.v2.enabled"
LIMITS = Rollout(window_seconds=60, minimum_turns=50, p95_seconds=5, error_rate=0.02, guardrail_rate=0.01)
SCRAPE = 5.0
HEALTHY: dict[str, float] = {
    "turns": 600,
    "p95_seconds": 0.4,
    "error_rate": 0.001,
    "guardrail_rate": 0,
    "age": 3,
    "samples": 12,
}


def healthy(**changes: float | None) -> Figures:
    return Figures(seconds=60, **{**HEALTHY, **changes})


def vector(**groups: object) -> dict[str, Any]:
    result = [
        {"metric": {"tenant_group": group}, "value": [1700000000.0, str(value)]}
        for group, value in groups.items()
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def answers(**changes: dict[str, Any]) -> dict[str, Any]:
    return {**{name: vector(pilot=value, full=0) for name, value in HEALTHY.items()}, **changes}


def test_health_is_a_go() -> None:
    said = judge(healthy(), LIMITS, SCRAPE)
    assert (said.verdict, said.reasons) == (Verdict.GO, ())


@pytest.mark.parametrize(
    ("figure", "limit", "above"),
    [
        ("p95_seconds", 5.0, 5.01),
        ("error_rate", 0.02, 0.0201),
        ("error_rate", 0.02, 1.0),
        ("guardrail_rate", 0.01, 0.011),
        ("guardrail_rate", 0.01, 3.0),
    ],
)
def test_above_a_limit_is_a_breach_and_the_limit_itself_is_not(
    figure: str, limit: float, above: float
) -> None:
    assert judge(healthy(**{figure: limit}), LIMITS, SCRAPE).verdict is Verdict.GO
    said = judge(healthy(**{figure: above}), LIMITS, SCRAPE)
    assert said.verdict is Verdict.BREACH
    assert len(said.reasons) == 1


def test_every_limit_that_is_broken_is_named() -> None:
    said = judge(healthy(p95_seconds=9, error_rate=0.5, guardrail_rate=0.4), LIMITS, SCRAPE)
    assert said.reasons == (
        "p95 9.00 s, at most 5 s",
        "errors 50.00%, at most 2.00%",
        "guardrail breaches 40.00%, at most 1.00%",
    )


@pytest.mark.parametrize("figure", HEALTHY)
def test_a_figure_that_is_missing_is_no_data(figure: str) -> None:
    said = judge(healthy(**{figure: None}), LIMITS, SCRAPE)
    assert said.verdict is Verdict.NO_DATA
    assert len(said.reasons) == 1


@pytest.mark.parametrize(
    ("figure", "enough", "not_enough"),
    [
        ("turns", 50, 49.9),
        ("turns", 50, 0),
        ("age", 15, 15.1),
        ("age", 15, 300),
        ("samples", 9, 8),
        ("samples", 9, 0),
    ],
)
def test_too_few_turns_old_samples_and_gaps_are_no_data(
    figure: str, enough: float, not_enough: float
) -> None:
    assert judge(healthy(**{figure: enough}), LIMITS, SCRAPE).verdict is Verdict.GO
    assert judge(healthy(**{figure: not_enough}), LIMITS, SCRAPE).verdict is Verdict.NO_DATA


def test_nothing_at_all_is_no_data() -> None:
    said = judge(Figures(seconds=60), LIMITS, SCRAPE)
    assert said.verdict is Verdict.NO_DATA
    assert said.reasons == (
        "no turns in 60 s, at least 50",
        "the service is not scraped any more",
        "no scrapes in 60 s, at least 9",
    )


def test_a_few_turns_show_no_breach() -> None:
    assert judge(healthy(turns=10, error_rate=0.5), LIMITS, SCRAPE).verdict is Verdict.NO_DATA


def test_a_breach_is_one_though_the_samples_are_old() -> None:
    assert judge(healthy(error_rate=0.5, age=200, samples=4), LIMITS, SCRAPE).verdict is Verdict.BREACH


def test_the_phases_own_group_must_show_health_and_earlier_ones_no_breach() -> None:
    nobody = Figures(seconds=60)
    assert judge_all({"internal": nobody, "pilot": healthy()}, "pilot", LIMITS, SCRAPE).verdict is Verdict.GO
    said = judge_all({"internal": healthy(), "pilot": nobody}, "pilot", LIMITS, SCRAPE)
    assert said.verdict is Verdict.NO_DATA
    assert all(reason.startswith("pilot: ") for reason in said.reasons)
    said = judge_all({"internal": healthy(error_rate=0.05), "pilot": healthy()}, "pilot", LIMITS, SCRAPE)
    assert (said.verdict, said.reasons) == (Verdict.BREACH, ("internal: errors 5.00%, at most 2.00%",))
    said = judge_all({"internal": healthy(error_rate=0.05), "pilot": nobody}, "pilot", LIMITS, SCRAPE)
    assert said.verdict is Verdict.BREACH, "a breach is not hidden by what is missing"


def test_a_group_that_nobody_asked_about_is_no_data() -> None:
    assert judge_all({}, "pilot", LIMITS, SCRAPE).verdict is Verdict.NO_DATA


def test_queries_are_of_the_flag_and_the_window_only() -> None:
    asked = queries(FLAG, 59.6)
    assert set(asked) == set(HEALTHY)
    for name, query in asked.items():
        assert f'flag="{FLAG}"' in query, name
        assert "tenant_group" in query, name
    for name in ("turns", "p95_seconds", "error_rate", "guardrail_rate"):
        assert "[60s]" in asked[name]
        assert "increase(" in asked[name]
    assert "[60s]" in asked["samples"]
    assert "refused" not in "".join(asked.values())


def test_figures_are_taken_apart_by_group() -> None:
    found = figures(answers(turns=vector(internal=7, pilot=600)), ("internal", "pilot"), 60)
    assert found["pilot"] == healthy()
    assert found["internal"] == Figures(seconds=60, turns=7)
    assert "full" not in found


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_not_a_number_is_nothing(value: str) -> None:
    found = figures(answers(error_rate=vector(pilot=value)), ("pilot",), 60)["pilot"]
    assert found == healthy(error_rate=None)
    assert judge(found, LIMITS, SCRAPE).verdict is Verdict.NO_DATA


def test_an_empty_vector_is_no_data() -> None:
    empty = {name: vector() for name in HEALTHY}
    assert figures(empty, ("pilot",), 60) == {"pilot": Figures(seconds=60)}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"status": "error", "errorType": "bad_data", "error": "parse error"}, "turns: parse error"),
        (
            {"status": "success", "data": {"resultType": "matrix", "result": []}},
            "turns: answered with a matrix",
        ),
        ({"status": "success"}, "turns: success"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}, "not one of"),
        (vector(pilot="many"), "'many' is not a number"),
        ([], "not one of"),
        (None, "not one of"),
        ("<html>", "not one of"),
    ],
)
def test_an_answer_that_is_none_is_an_error(wrong: Any, said: str) -> None:
    with pytest.raises(GateError, match=said):
        figures(answers(turns=wrong), ("pilot",), 60)


def test_a_question_without_an_answer_is_an_error() -> None:
    some = answers()
    del some["age"]
    with pytest.raises(GateError, match="age: not answered"):
        figures(some, ("pilot",), 60)


def test_people_read_figures_beside_their_limits() -> None:
    assert healthy().line(LIMITS) == (
        "600 turns (at least 50), p95 0.4 s (at most 5 s), errors 0.10% (at most 2.00%),"
        " guardrails 0.00% (at most 1.00%)"
    )
    assert "no turns (at least 50), p95 unknown" in Figures(seconds=60).line(LIMITS)
