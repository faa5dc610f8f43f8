"""The schedule is fixed before the first request, and even."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from pydantic import ValidationError

from tests.load.plan import MIX, Kind, Plan, ticks


def test_requests_are_due_at_a_constant_rate() -> None:
    due = [tick.at for tick in ticks(Plan(rate=50, seconds=2))]
    assert len(due) == 100
    assert all(after - before == pytest.approx(0.02) for before, after in pairwise(due))


def test_the_mix_is_kept_and_spread() -> None:
    plan = Plan(rate=100, seconds=10)
    kinds = [tick.kind for tick in ticks(plan)]
    assert Counter(kinds) == {kind: 10 * weight for kind, weight in MIX.items()}
    for start in range(0, 1000, 100):
        assert Counter(kinds[start : start + 100]) == Counter(MIX)
    streams = [number for number, kind in enumerate(kinds) if kind is Kind.STREAM]
    assert {after - before for before, after in pairwise(streams)} == {100}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_each_kind_has_its_share_of_fresh_connections(share: float) -> None:
    planned = list(ticks(Plan(rate=100, seconds=40, fresh=share)))
    for kind in Kind:
        of_kind = [tick.fresh for tick in planned if tick.kind is kind]
        assert sum(of_kind) == len(of_kind) * share


def test_clients_take_turns() -> None:
    planned = list(ticks(Plan(rate=10, seconds=1, clients=3)))
    assert [tick.client for tick in planned[:4]] == [0, 1, 2, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": 5000},
        {"seconds": 0},
        {"seconds": 1e9},
        {"fresh": 2},
        {"mix": {"delete": 1}},
        {"r": 1},
    ],
)
def test_a_plan_without_sense_or_end_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(wrong)


def test_a_mix_without_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="mix"):
        list(ticks(Plan(mix={Kind.HEALTH: 0})))
