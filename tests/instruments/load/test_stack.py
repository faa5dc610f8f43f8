"""What counts as lossless on the stack, and which stack may be loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from infra.outputs.model import StackOutputs
from tests.instruments.load.double import Double, Fault, credentials
from tests.load import stack
from tests.load.plan import Kind, Plan
from tests.load.process import running
from tests.load.writes import Written

PLAN = Plan(rate=50, seconds=30, timeout=2, mix={Kind.WHOAMI: 1, Kind.WEBHOOK: 1}, kept_connections=3)


@pytest.mark.parametrize(
    ("fault", "found", "said"),
    [
        (None, Written(9, (), 0), None),
        (Fault.UNAVAILABLE, Written(9, (), 0), "whoami: status 503"),
        (None, Written(9, ("load-1-1",), 0), "1 acknowledged writes missing"),
        (None, Written(9, (), 2), "2 made again"),
    ],
)
def test_one_loss_is_enough(
    double: Double,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    fault: Fault | None,
    found: Written,
    said: str | None,
) -> None:
    monkeypatch.setattr(stack, "written", lambda *_: found)
    if fault:
        double.faults["whoami"] = fault
    with double.in_thread(), running(PLAN, double.target(), credentials(), directory=tmp_path) as load:
        load.await_requests(30)
        if said is None:
            assert stack.lossless(load).failed == []
        else:
            with pytest.raises(AssertionError, match=said):
                stack.lossless(load)


def test_only_the_local_stack_is_loaded() -> None:
    production = cast(StackOutputs, SimpleNamespace(environment="production"))
    with pytest.raises(ValueError, match="stack production"):
        stack.target(production)
