"""What is a breach, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from infra.procedures.operation import ProcedureError
from infra.procedures.watch import Limits, Watch, queries


def body(number: str | None) -> dict[str, Any]:
    result = [] if number is None else [{"metric": {}, "value": [1.0, number]}]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_some_failed_checks_in_a_row_are_a_breach_and_single_ones_are_not() -> None:
    watch = Watch(Limits(failures=3))
    for problem in ("down", "down", "", "down", "down"):
        watch.answered(problem)
        assert not watch.breach
    watch.answered("connection refused")
    assert watch.breach == "not healthy 3 times in a row: connection refused"
    assert watch.summary().startswith("1 of 6 checks healthy")


@pytest.mark.parametrize(
    ("requests", "errors", "breach"),
    [
        ("1000", "10", ""),
        ("1000", "11", "1.1% of 1000 answers are errors (at most 1.0%)"),
        ("10", "10", ""),
        ("20", "20", "100.0% of 20 answers are errors (at most 1.0%)"),
        ("1000", None, ""),
        (None, None, ""),
        ("NaN", "NaN", ""),
    ],
)
def test_the_share_of_errors(requests: str | None, errors: str | None, breach: str) -> None:
    watch = Watch(Limits(error_rate=0.01))
    watch.counted({"requests": body(requests), "errors": body(errors)})
    assert watch.breach == breach


def test_silence_of_prometheus_is_said_and_is_no_breach() -> None:
    watch = Watch(Limits())
    watch.answered("")
    watch.counted(None, "the host did not answer")
    assert not watch.breach
    assert watch.summary() == "1 of 1 checks healthy; error rate unknown (the host did not answer)"


def test_the_range_is_the_time_watched() -> None:
    assert "[90s]" in queries(90.2)["errors"]
    assert 'code=~"5.."' in queries(90)["errors"]


@pytest.mark.parametrize(
    "given", [{"seconds": 0}, {"seconds": 1e9}, {"error_rate": 2}, {"failures": 0}, {"interval": 0}]
)
def test_limits_that_mean_nothing_are_refused(given: dict[str, float]) -> None:
    (name,) = given
    with pytest.raises(ProcedureError, match=f"watch: {name}"):
        Limits.parse(given)
