"""What a command of maintenance means, with every record and at every time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.procedures.maintenance import Act, Plan, Request, Step, plan
from infra.procedures.operation import ProcedureError
from infra.record import Maintenance, Window

AT = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
WINDOW = Window(at=AT, announced_at=AT - timedelta(hours=50), why="updates", by="ops")
NOTHING = Maintenance()


def meant(found: Maintenance, now: datetime, **given: Any) -> Plan:
    return plan(Request.parse({"why": "updates", **given}), found, now)


def at(now: datetime, found: Maintenance = NOTHING, **given: Any) -> Plan:
    return meant(found, now, at="2026-11-25T02:00Z", **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "name either mode=on|off|cancel or at="),
        ({"mode": "on", "at": "2026-11-25T02:00Z"}, "name either"),
        ({"mode": "up", "why": "x"}, "mode: Input should be 'on', 'off' or 'cancel' (got 'up')"),
        ({"at": "tomorrow", "why": "x"}, "at: "),
        ({"at": "2026-11-25T02:00", "why": "x"}, "timezone"),
        ({"mode": "on"}, "say why"),
        ({"mode": "on", "why": " "}, "say why"),
        ({"at": "2026-11-25T02:00Z", "why": "x", "notice_hours": -1}, "notice_hours: "),
    ],
)
def test_bad_input_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ProcedureError) as caught:
        Request.parse(given)
    assert said in str(caught.value)


def test_the_same_command_has_the_same_parameters() -> None:
    first, second = (at(AT - timedelta(hours=ahead), why=why) for ahead, why in ((60, "a"), (50, "b")))
    assert first.parameters == second.parameters == {"at": "2026-11-25T02:00:00+00:00"}
    assert meant(NOTHING, AT, mode="on").parameters == {"mode": "on"}


def test_a_window_is_announced_two_days_ahead() -> None:
    found = at(AT - timedelta(hours=48))
    assert (found.act, found.announce) == (Act.ANNOUNCE, True)


@pytest.mark.parametrize("ahead", [timedelta(hours=47, minutes=59), timedelta(minutes=1)])
def test_less_notice_needs_a_reason(ahead: timedelta) -> None:
    with pytest.raises(ProcedureError, match="announced 48 h ahead"):
        at(AT - ahead)
    assert at(AT - ahead, short_notice="leak").act is Act.ANNOUNCE
    assert at(AT - ahead, notice_hours=0).act is Act.ANNOUNCE


def test_a_time_in_the_past_needs_a_reason_and_must_not_be_long_ago() -> None:
    with pytest.raises(ProcedureError, match="in the past"):
        at(AT + timedelta(minutes=1))
    found = at(AT + timedelta(minutes=1), short_notice="leak")
    assert (found.act, found.announce) == (Act.WINDOW, True)
    with pytest.raises(ProcedureError, match="ago: name the time that is meant"):
        at(AT + timedelta(hours=13), short_notice="leak")


def test_a_planned_window_does_not_begin_before_its_time() -> None:
    planned = Maintenance(window=WINDOW)
    with pytest.raises(
        ProcedureError, match=r"planned for 2026-11-25 02:00 UTC, in 1:00:00: run this command"
    ):
        at(AT - timedelta(hours=1), planned)
    assert at(AT - timedelta(hours=1), planned, short_notice="leak").act is Act.WINDOW
    found = at(AT, planned)
    assert (found.act, found.announce, found.done) == (Act.WINDOW, False, ())


def test_a_planned_window_does_not_begin_when_nobody_expects_it_any_more() -> None:
    with pytest.raises(ProcedureError, match="ago: call it off"):
        at(AT + timedelta(hours=13), Maintenance(window=WINDOW))


@pytest.mark.parametrize("late", [timedelta(hours=-1), timedelta(hours=30)])
def test_a_window_that_began_goes_on_whenever(late: timedelta) -> None:
    begun = WINDOW.model_copy(update={"done": ("backup", "on")})
    found = at(AT + late, Maintenance(enabled=True, window=begun))
    assert (found.act, found.done) == (Act.WINDOW, (Step.BACKUP, Step.ON))


def test_only_one_window_is_planned() -> None:
    with pytest.raises(ProcedureError, match=r"planned for 2026-11-25 02:00 UTC already \(updates\)"):
        meant(Maintenance(window=WINDOW), AT, at="2026-12-25T02:00Z")


def test_a_window_that_is_complete_is_not_done_again() -> None:
    assert at(AT + timedelta(hours=1), Maintenance(completed=AT)).act is Act.DONE


def test_modes() -> None:
    assert meant(NOTHING, AT, mode="on").act is Act.ON
    assert meant(Maintenance(enabled=True), AT, mode="on").act is Act.ON
    assert meant(NOTHING, AT, mode="off", why="").act is Act.OFF
    begun = WINDOW.model_copy(update={"done": ("backup",)})
    assert "window of 2026-11-25 02:00 UTC ends" in meant(Maintenance(window=begun), AT, mode="off").says
    assert meant(Maintenance(window=WINDOW), AT, mode="cancel", why="").act is Act.CANCEL
    with pytest.raises(ProcedureError, match="nothing to call off"):
        meant(NOTHING, AT, mode="cancel")
    with pytest.raises(ProcedureError, match=r"has begun \(backup done\)"):
        meant(Maintenance(window=begun), AT, mode="cancel")
