"""A rollout's state machine: what the record says of it, and what a run does next (DEP-3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.config.model import Rollout
from infra.procedures.gate import Judgement, Verdict
from infra.procedures.operation import ProcedureError
from infra.procedures.rollout import (
    ACTION,
    GROUPS,
    Kind,
    Phase,
    Plan,
    Progress,
    Seen,
    Step,
    Watch,
    check_flag,
    check_window,
    flag_table,
    hold,
    plan,
    progress,
    read_progress,
)
from infra.record import Event, Record, Release, Result, Switch
from infra.record.directory import DirectoryStore
from infra.record.model import NO_HASH

FLAG = "ai_waiter.v2.enabled"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
END = "rollout.end"
NOBODY: dict[str, bool] = {}
EVERYBODY = dict.fromkeys(GROUPS, True)
WINDOW = 60


def phase(group: str, step: Step, verdict: Verdict | None = None, **fields: Any) -> Phase:
    enabled = step is not Step.OFF
    reasons = ("errors 5.00%, at most 2.00%",) if verdict not in (None, Verdict.GO) else ()
    given = {"flag": FLAG, "window": WINDOW, **fields}
    return Phase(group=group, enabled=enabled, step=step, verdict=verdict, reasons=reasons, **given)


def events(*said: Phase | str) -> list[Event]:
    """Events a second apart: phases, or the name of another event of the same operation."""
    made = []
    for seq, each in enumerate(said, start=1):
        action, details = (ACTION, each.model_dump(mode="json")) if isinstance(each, Phase) else (each, {})
        fields = {
            "seq": seq,
            "id": str(seq),
            "at": START + timedelta(seconds=seq),
            "who": "somebody",
            "host": "here",
            "action": action,
            "operation_id": "rollout-1",
            "details": details,
            "previous": NO_HASH,
        }
        made.append(Event.seal(fields))
    return made


def passed(*groups: str) -> list[Phase]:
    return [
        said
        for group in groups
        for said in (
            phase(group, Step.OPENED),
            phase(group, Step.HOLDING),
            phase(group, Step.JUDGED, Verdict.GO),
        )
    ]


def on(*groups: str) -> dict[str, bool]:
    return {group: group in groups for group in GROUPS}


def after(said: Sequence[Phase | str], table: dict[str, bool], window: int = WINDOW) -> Plan:
    return plan(FLAG, progress(events(*said), FLAG), table, window)


HOLDING_PILOT = [*passed("internal"), phase("pilot", Step.OPENED), phase("pilot", Step.HOLDING)]
BREACH = [*HOLDING_PILOT, phase("pilot", Step.JUDGED, Verdict.BREACH)]
OFF = [*BREACH, phase("all", Step.OFF)]

# Every place where a run can be killed: what was written, for whom the flag is on, what the next run does.
PLACES: dict[str, tuple[Sequence[Phase | str], dict[str, bool], Kind, tuple[str, ...]]] = {
    "nothing was done": ([], NOBODY, Kind.START, GROUPS),
    "rows exist, all off": ([], on(), Kind.START, GROUPS),
    "opened": ([phase("internal", Step.OPENED)], on(), Kind.RESUME, GROUPS),
    "opened and turned on": ([phase("internal", Step.OPENED)], on("internal"), Kind.RESUME, GROUPS),
    "holding": (
        [phase("internal", Step.OPENED), phase("internal", Step.HOLDING)],
        on("internal"),
        Kind.RESUME,
        GROUPS,
    ),
    "first passed": (passed("internal"), on("internal"), Kind.RESUME, GROUPS[1:]),
    "second opened": (
        [*passed("internal"), phase("pilot", Step.OPENED)],
        on("internal"),
        Kind.RESUME,
        GROUPS[1:],
    ),
    "second turned on": (
        [*passed("internal"), phase("pilot", Step.OPENED)],
        on("internal", "pilot"),
        Kind.RESUME,
        GROUPS[1:],
    ),
    "second holding": (HOLDING_PILOT, on("internal", "pilot"), Kind.RESUME, GROUPS[1:]),
    "second passed": (passed("internal", "pilot"), on("internal", "pilot"), Kind.RESUME, GROUPS[2:]),
    "breach, still on": (BREACH, on("internal", "pilot"), Kind.WITHDRAW, ()),
    "breach, off but not said": (BREACH, on(), Kind.WITHDRAW, ()),
    "off, not ended": (OFF, on(), Kind.FINISH, ()),
    "off and ended": ([*OFF, END], on(), Kind.START, GROUPS),
    "off by a rollback": ([*OFF, "rollback.end"], on(), Kind.START, GROUPS),
    "off by a rollback that was killed": ([*HOLDING_PILOT, OFF[-1]], on(), Kind.START, GROUPS),
    "all passed, not ended": (passed(*GROUPS), EVERYBODY, Kind.FINISH, ()),
    "all passed and ended": ([*passed(*GROUPS), END], EVERYBODY, Kind.NOTHING, ()),
    "ended uncertain in the second": (
        [*HOLDING_PILOT, END],
        on("internal", "pilot"),
        Kind.RESUME,
        GROUPS[1:],
    ),
    "turned off by somebody in the second": (HOLDING_PILOT, on(), Kind.START, GROUPS),
    "turned off for the pilots only": (HOLDING_PILOT, on("internal"), Kind.START, GROUPS),
    "turned off by somebody after all": ([*passed(*GROUPS), END], on(), Kind.START, GROUPS),
    "begun anew": (
        [*passed("internal", "pilot"), phase("internal", Step.OPENED)],
        on("internal"),
        Kind.RESUME,
        GROUPS,
    ),
    "begun anew after a breach": ([*OFF, END, *passed("internal")], on("internal"), Kind.RESUME, GROUPS[1:]),
}


@pytest.mark.parametrize(("said", "table", "kind", "groups"), PLACES.values(), ids=PLACES)
def test_a_run_goes_on_where_the_record_says(
    said: Sequence[Phase | str], table: dict[str, bool], kind: Kind, groups: tuple[str, ...]
) -> None:
    found = after(said, table)
    assert (found.kind, found.groups) == (kind, groups)


@pytest.mark.parametrize("verdict", [Verdict.BREACH, Verdict.NO_DATA])
@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_no_phase_is_passed_without_a_go(verdict: Verdict, number: int) -> None:
    group = GROUPS[number]
    said = [
        *passed(*GROUPS[:number]),
        phase(group, Step.OPENED),
        phase(group, Step.HOLDING),
        phase(group, Step.JUDGED, verdict),
    ]
    found = after(said, on(*GROUPS[: number + 1]))
    assert found.kind is Kind.WITHDRAW
    assert found.why == "errors 5.00%, at most 2.00%"


def test_a_window_that_runs_is_gone_on_with_and_not_shortened() -> None:
    found = after(HOLDING_PILOT, on("internal", "pilot"), window=20)
    assert found.begins("pilot") == START + timedelta(seconds=len(HOLDING_PILOT))
    assert found.window_of("pilot") == WINDOW
    assert (found.begins("full"), found.window_of("full")) == (None, 20)
    assert after(HOLDING_PILOT, on("internal", "pilot"), window=90).window_of("pilot") == 90


def test_a_phase_that_was_opened_only_has_its_whole_window_before_it() -> None:
    found = after([phase("internal", Step.OPENED)], on("internal"), window=20)
    assert (found.begins("internal"), found.window_of("internal")) == (None, 20)


def test_a_window_of_a_former_phase_is_not_the_next_ones() -> None:
    assert after(passed("internal"), on("internal")).begins("pilot") is None


@pytest.mark.parametrize(
    ("said", "table", "named"),
    [
        ([], on("pilot"), "pilot"),
        ([], EVERYBODY, "pilot, full"),
        (passed("internal"), EVERYBODY, "pilot, full"),
        (HOLDING_PILOT, EVERYBODY, "full"),
        (HOLDING_PILOT, on("pilot"), "pilot"),
    ],
)
def test_a_flag_that_is_on_where_no_rollout_turned_it_on_is_refused(
    said: list[Phase | str], table: dict[str, bool], named: str
) -> None:
    with pytest.raises(ProcedureError, match=f"is on for {named}, where no rollout"):
        after(said, table)


def test_a_rollout_that_somebody_stopped_by_hand_says_so() -> None:
    assert after(HOLDING_PILOT, on()).why == "somebody turned it off for internal, pilot: it begins anew"


def test_other_flags_are_other_rollouts() -> None:
    others = [phase(each.group, each.step, each.verdict, flag="another.flag") for each in BREACH]
    assert progress(events(*others), FLAG) == Progress()
    mixed = events(*passed("internal"), *others)
    assert progress(mixed, FLAG).passed == ("internal",)


def test_a_phase_whose_flag_was_turned_off_is_not_open() -> None:
    opened = [phase("internal", Step.OPENED)]
    assert progress(events(*opened), FLAG).is_open("internal")
    assert not progress(events(*opened), FLAG).is_open("pilot")
    assert not progress(events(*opened, OFF[-1]), FLAG).is_open("internal")


def test_the_end_of_another_operation_ends_nothing() -> None:
    said = events(*OFF, END)
    other = said[-1].model_copy(update={"operation_id": "rollout-2"})
    assert not progress([*said[:-1], other], FLAG).ended


def test_a_phase_that_is_none_is_named() -> None:
    broken = events(phase("internal", Step.OPENED))[0]
    broken = broken.model_copy(update={"details": {"flag": FLAG, "group": "internal"}})
    with pytest.raises(ProcedureError, match="event 1 of the record is no phase"):
        progress([broken], FLAG)


@pytest.mark.parametrize(
    ("step", "verdict", "result"),
    [
        (Step.OPENED, None, Result.STARTED),
        (Step.HOLDING, None, Result.STARTED),
        (Step.JUDGED, Verdict.GO, Result.OK),
        (Step.JUDGED, Verdict.BREACH, Result.FAILED),
        (Step.JUDGED, Verdict.NO_DATA, Result.FAILED),
        (Step.OFF, None, Result.ROLLED_BACK),
    ],
)
def test_the_log_tells_go_from_no_go(step: Step, verdict: Verdict | None, result: Result) -> None:
    assert phase("pilot", step, verdict).result is result


def test_the_table_is_what_the_release_prints() -> None:
    lines = ["ai_model.failover.enabled\tfull\ton", f"{FLAG}\tinternal\ton", f"{FLAG}\tpilot\toff", ""]
    assert flag_table(FLAG, lines) == {"internal": True, "pilot": False}
    with pytest.raises(ProcedureError, match="not key, tenant group, on or off"):
        flag_table(FLAG, ["Traceback (most recent call last):"])


LIMITS = Rollout(window_seconds=60)


def test_the_window_of_the_command_comes_before_that_of_the_stack() -> None:
    assert check_window(None, LIMITS, 15) == 60
    assert check_window("", LIMITS, 15) == 60
    assert check_window("90", LIMITS, 15) == 90
    assert check_window(90, LIMITS, 15) == 90


@pytest.mark.parametrize("window", ["59", "0", "-90", "1h", "60.5", 59, True, [60]])
def test_a_window_in_which_nothing_can_be_seen_is_refused(window: object) -> None:
    with pytest.raises(ProcedureError, match="at least 60"):
        check_window(window, LIMITS, 15)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_the_range_grows_with_the_window_and_is_never_longer() -> None:
    watch = Watch(START, WINDOW, 5)
    assert [watch.seconds(at(each)) for each in (-3, 0, 12, 60, 4000)] == [0, 0, 12, 60, 60]
    assert [watch.worth_a_look(at(each)) for each in (0, 19, 20, 60)] == [False, False, True, True]
    assert [watch.over(at(each)) for each in (0, 59.9, 60, 4000)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("verdict", "early", "late"),
    [(Verdict.GO, False, True), (Verdict.NO_DATA, False, True), (Verdict.BREACH, True, True)],
)
def test_a_breach_ends_a_phase_at_once_and_nothing_else_does(
    verdict: Verdict, early: bool, late: bool
) -> None:
    watch = Watch(START, WINDOW, 5)
    assert watch.stops(Judgement(verdict), at(30)) is early
    assert watch.stops(Judgement(verdict), at(60)) is late


class Clock:
    """Time that passes by pauses and looks only."""

    def __init__(self, seconds: float = 0) -> None:
        self.now = at(seconds)
        self.pauses: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.pauses.append(seconds)
        self.now += timedelta(seconds=seconds)

    @property
    def passed(self) -> float:
        return (self.now - START).total_seconds()


def held(clock: Clock, answers: Callable[[float], Seen], scrape: float = 5) -> tuple[Seen, list[float], int]:
    """What was decided, the ranges that were looked at, how many lines of progress."""
    ranges: list[float] = []
    said: list[datetime] = []

    def look(seconds: float) -> Seen:
        ranges.append(seconds)
        return answers(clock.passed)

    decided = hold(
        Watch(START, WINDOW, scrape),
        look,
        scrape_seconds=scrape,
        say=lambda when, _seen: said.append(when),
        clock=clock,
        pause=clock.pause,
    )
    return decided, ranges, len(said)


def seen(verdict: Verdict) -> Seen:
    return Seen(Judgement(verdict))


@pytest.mark.parametrize("verdict", [Verdict.GO, Verdict.NO_DATA])
def test_a_phase_is_held_for_its_whole_window(verdict: Verdict) -> None:
    clock = Clock()
    decided, ranges, lines = held(clock, lambda _passed: seen(verdict))
    assert decided.judgement.verdict is verdict
    assert clock.passed == WINDOW
    assert ranges[0] >= 20
    assert ranges[-1] == WINDOW
    assert max(clock.pauses) <= 5
    assert lines >= WINDOW / 5


def test_health_in_the_middle_is_none_at_the_end() -> None:
    decided, _, _ = held(Clock(), lambda passed: seen(Verdict.NO_DATA if passed >= WINDOW else Verdict.GO))
    assert decided.judgement.verdict is Verdict.NO_DATA


def test_a_breach_is_not_waited_out() -> None:
    clock = Clock()
    decided, _, _ = held(clock, lambda passed: seen(Verdict.BREACH if passed > 30 else Verdict.GO))
    assert decided.judgement.verdict is Verdict.BREACH
    assert 30 < clock.passed <= 40


def test_prometheus_is_asked_once_a_scrape_at_most() -> None:
    _, ranges, _ = held(Clock(), lambda _passed: seen(Verdict.GO), scrape=15)
    assert len(ranges) <= 2


def test_a_prometheus_that_is_away_for_a_moment_is_asked_again() -> None:
    clock = Clock()
    decided, _, _ = held(
        clock, lambda passed: Seen.unanswered("refused") if passed < WINDOW + 7 else seen(Verdict.GO)
    )
    assert decided.judgement.verdict is Verdict.GO
    assert WINDOW < clock.passed < WINDOW + 15


def test_a_prometheus_that_stays_away_is_no_data() -> None:
    clock = Clock()
    decided, _, _ = held(clock, lambda _passed: Seen.unanswered("connection refused"))
    assert decided.judgement == Judgement(Verdict.NO_DATA, ("connection refused",))
    assert WINDOW + 15 <= clock.passed < WINDOW + 30


def test_a_run_that_comes_back_late_looks_at_once_at_the_last_window() -> None:
    clock = Clock(4000)
    decided, ranges, _ = held(clock, lambda _passed: seen(Verdict.GO))
    assert (decided.judgement.verdict, ranges, clock.pauses) == (Verdict.GO, [WINDOW], [])


def test_a_run_that_comes_back_in_time_waits_for_the_rest_only() -> None:
    clock = Clock(50)
    held(clock, lambda _passed: seen(Verdict.GO))
    assert clock.passed == WINDOW


@pytest.mark.parametrize("flag", ["", "Ai", 'x"}', "a b", None, 7, "-x", "x" * 101, "a\nb"])
def test_a_flag_is_a_key(flag: object) -> None:
    with pytest.raises(ProcedureError, match="must be the key"):
        check_flag(flag)


def test_progress_is_read_from_the_record(tmp_path: Path) -> None:
    record = Record(DirectoryStore(tmp_path))
    record.bootstrap(
        release=Release(image="r/i", digest=f"sha256:{'a' * 64}", git_sha="abc", deployed_at=START, by="me"),
        hosts=["primary"],
        switches=dict.fromkeys(Switch, True),
        active_region="ams3",
    )
    with record.lease("rollout", operation_id="rollout-1") as lease:
        for each in HOLDING_PILOT:
            lease.log(ACTION, result=each.result, details=each.model_dump(mode="json"))
    found = read_progress(record, FLAG)
    assert (found.passed, found.current, found.window) == (("internal",), "pilot", WINDOW)
    assert found.since is not None
    assert not found.ended
