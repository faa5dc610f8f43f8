"""What the database says of a run's writes."""

from __future__ import annotations

import pytest

from tests.load.writes import Written, judge

ROWS = ("message|load-1-1|1", "message|load-1-2|1", "key|load-1-3|1", "vouchers||1")
ALL = ("load-1-1", "load-1-2", "load-1-3")


@pytest.mark.parametrize(
    ("rows", "acknowledged", "said"),
    [
        (ROWS, ALL, Written(3, (), 0)),
        (ROWS, ALL[:2], Written(3, (), 0)),
        (ROWS[1:], ALL, Written(2, ("load-1-1",), 0)),
        (("vouchers||0",), ALL, Written(0, ALL, 0)),
        (("message|load-1-1|2", *ROWS[1:]), ALL, Written(4, (), 1)),
        ((*ROWS[:3], "vouchers||3"), ALL, Written(3, (), 2)),
    ],
)
def test_missing_and_repeated_writes_are_found(
    rows: tuple[str, ...], acknowledged: tuple[str, ...], said: Written
) -> None:
    assert judge(rows, acknowledged) == said
