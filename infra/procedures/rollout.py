"""Rolling a flag out to one tenant group after the other: where it stands, and what comes next (DEP-3).

Pure. The record's events `rollout.phase` say how far a rollout came; the flag's rows in Supabase say for whom
it is on. A step is logged before it is taken (`opened`, `judged`) and what follows from it can be done again,
so that a run that was killed anywhere goes on from the event that it wrote last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.config.model import LEAST_SCRAPES, Rollout
from infra.procedures.gate import Figures, Judgement, Verdict
from infra.procedures.operation import ProcedureError
from infra.record import Event, Record, Result

OPERATION = "rollout"
ACTION = "rollout.phase"
_END = ".end"
GROUPS = ("internal", "pilot", "full")
"""Tenant groups in the order of the phases (000)."""
EVERYBODY = "all"
_FLAG = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
SAY_EVERY = 4.0
"""Seconds between two lines of progress at most."""
_PATIENCE_SCRAPES = 3
_EVENTS_READ = 5000
"""How far back a rollout is looked for: it is hundreds of operations."""


class Step(StrEnum):
    """What an event `rollout.phase` says of the phase of its `group`."""

    OPENED = "opened"
    """The flag is about to be turned on for the group."""
    HOLDING = "holding"
    """It is on; the window begins at the event's time."""
    JUDGED = "judged"
    """The window's verdict; whatever is not `go` has the flag turned off."""
    OFF = "off"
    """The flag is off for everybody."""


class Phase(BaseModel):
    """Details of an event `rollout.phase`; `window` in seconds. `enabled`: the flag is on after it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flag: str
    group: str
    enabled: bool
    window: int
    step: Step
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    figures: dict[str, Figures] = {}

    @property
    def result(self) -> Result:
        """Result of the event."""
        if self.step is Step.OFF:
            return Result.ROLLED_BACK
        if self.step is Step.JUDGED:
            return Result.OK if self.verdict is Verdict.GO else Result.FAILED
        return Result.STARTED


class Kind(StrEnum):
    """What a run has to do."""

    START = "start"
    RESUME = "resume"
    WITHDRAW = "withdraw"
    """The verdict is known, the flag may still be on."""
    FINISH = "finish"
    """All is done but to say so."""
    NOTHING = "nothing"
    """The flag is on for everybody, by a rollout that ended."""


@dataclass(frozen=True)
class Progress:
    """How far the rollout of a flag came, by the record.

    `current` is the phase that was opened last and not passed; `since` is when its window began. `stopped` is
    a verdict other than `go`. `off`: the flag was turned off after that. `ended`: the operation said how it
    ended.
    """

    passed: tuple[str, ...] = ()
    current: str | None = None
    since: datetime | None = None
    window: int = 0
    stopped: Phase | None = None
    off: bool = False
    ended: bool = True

    @property
    def complete(self) -> bool:
        """Whether every phase was passed."""
        return self.passed == GROUPS

    @property
    def on(self) -> tuple[str, ...]:
        """Groups for which the flag must be on: those of passed phases, and of one whose window runs."""
        if self.off:
            return ()
        return (*self.passed, *([self.current] if self.current and self.since else []))

    def is_open(self, group: str) -> bool:
        """Whether the phase of a group was opened, and neither judged nor called off since."""
        return self.current == group and self.stopped is None and not self.off


def progress(events: Iterable[Event], flag: str) -> Progress:
    """Read the record's events, oldest first; those of other flags are left out."""
    found = Progress()
    operation_id: str | None = None
    for event in events:
        # A rollback turns flags off as well: it is its own end that says so then.
        ended = event.action.endswith(_END) and operation_id is not None
        if ended and event.operation_id == operation_id:
            found = _with(found, ended=True)
        if event.action != ACTION or event.details.get("flag") != flag:
            continue
        try:
            phase = Phase.model_validate(event.details)
        except ValidationError:
            raise ProcedureError(f"event {event.seq} of the record is no phase of a rollout") from None
        operation_id = event.operation_id
        found = _after(found, phase, event.at)
    return found


def read_progress(record: Record, flag: str) -> Progress:
    """Read how far the rollout of a flag came from the record."""
    return progress(record.events(max(0, record.last_event() - _EVENTS_READ)), flag)


def _with(found: Progress, **fields: Any) -> Progress:
    return Progress(**{**vars(found), **fields})


def _after(found: Progress, phase: Phase, at: datetime) -> Progress:
    match phase.step:
        case Step.OPENED:
            # A rollout that begins anew opens the first phase: what was passed before counts no more.
            passed = found.passed[: GROUPS.index(phase.group)] if phase.group in GROUPS else ()
            return Progress(passed=passed, current=phase.group, window=phase.window, ended=False)
        case Step.HOLDING:
            return _with(found, since=at, window=phase.window)
        case Step.JUDGED if phase.verdict is Verdict.GO:
            passed = tuple(group for group in GROUPS if group in {*found.passed, phase.group})
            return Progress(passed=passed, ended=False)
        case Step.JUDGED:
            return _with(found, stopped=phase)
        case _:
            return _with(found, off=True)


@dataclass(frozen=True)
class Plan:
    """What a run does: `groups` are the phases that it still has to hold.

    `window` in seconds is that of every phase. A window that runs already began at `since` and has
    `first_window` seconds at least: it is not shortened.
    """

    flag: str
    kind: Kind
    window: int
    groups: tuple[str, ...] = ()
    since: datetime | None = None
    first_window: int = 0
    why: str = ""
    stopped: Phase | None = field(default=None)

    def window_of(self, group: str) -> int:
        """Seconds for which a phase is held."""
        return max(self.window, self.first_window) if self.groups[:1] == (group,) else self.window

    def begins(self, group: str) -> datetime | None:
        """When the phase's window began, if it did."""
        return self.since if self.groups[:1] == (group,) else None


def plan(flag: str, found: Progress, table: Mapping[str, bool], window: int) -> Plan:
    """Decide what a run does.

    `table` says for which groups the flag is on. What the record calls on and the table calls off was turned
    off by somebody: then nothing of the former rollout counts.

    Raises:
        ProcedureError: the flag is on where no rollout turned it on.
    """
    if found.stopped is not None and not found.off:
        return Plan(flag, Kind.WITHDRAW, window, stopped=found.stopped, why="; ".join(found.stopped.reasons))
    if found.off and found.stopped is not None and not found.ended:
        return Plan(flag, Kind.FINISH, window, stopped=found.stopped, why="; ".join(found.stopped.reasons))
    on = tuple(group for group in GROUPS if table.get(group, False))
    if found.complete and on == GROUPS:
        return Plan(flag, Kind.NOTHING if found.ended else Kind.FINISH, window)
    off = [group for group in found.on if group not in on]
    if not found.off and not found.complete and not off and (found.current or found.passed):
        left = GROUPS[len(found.passed) :]
        opened = {*found.passed, *([found.current] if found.current else [])}
        _refuse_others(flag, [group for group in on if group not in opened])
        return Plan(
            flag,
            Kind.RESUME,
            window,
            groups=left,
            since=found.since,
            first_window=found.window if found.since else 0,
            why=f"goes on with {left[0]}",
        )
    _refuse_others(flag, [group for group in on if group != GROUPS[0]])
    why = f"somebody turned it off for {', '.join(off)}: it begins anew" if off and not found.off else ""
    return Plan(flag, Kind.START, window, groups=GROUPS, why=why)


def _refuse_others(flag: str, groups: Sequence[str]) -> None:
    if groups:
        raise ProcedureError(
            f"{flag} is on for {', '.join(groups)}, where no rollout turned it on: turn it off first"
            f" (`flags disable {flag}` of the release)"
        )


def flag_table(flag: str, lines: Iterable[str]) -> dict[str, bool]:
    """For which groups a flag is on, from the lines of `flags list`: key, tenant group, on or off, by tabs.

    Raises:
        ProcedureError: a line is of another shape.
    """
    table = {}
    for line in filter(str.strip, lines):
        parts = line.rstrip("\n").split("\t")
        if len(parts) != 3 or parts[2] not in {"on", "off"}:  # noqa: PLR2004
            raise ProcedureError(
                f"`flags list` of the release said {line!r}: not key, tenant group, on or off"
            )
        if parts[0] == flag:
            table[parts[1]] = parts[2] == "on"
    return table


def check_window(seconds: Any, limits: Rollout, scrape_seconds: int) -> int:
    """The window of `-e window=`, else that of the stack file; ProcedureError for one that is too short."""
    if seconds in (None, ""):
        return limits.window_seconds
    text, least = str(seconds), LEAST_SCRAPES * scrape_seconds
    if not text.isdecimal() or int(text) < least:
        raise ProcedureError(
            f"window must be a whole number of seconds, at least {least} ({LEAST_SCRAPES} scrapes),"
            f" got {text!r}"
        )
    return int(text)


def check_flag(flag: Any) -> str:
    """The name of a flag; raises ProcedureError for what can't be one."""
    if not isinstance(flag, str) or not _FLAG.fullmatch(flag):
        raise ProcedureError(
            f"flag must be the key of a feature flag (-e flag=ai_waiter.v2.enabled), got {flag!r}"
        )
    return flag


class Watch:
    """One phase being held: when to look, and when it is over.

    The range that counts begins with the window and is never longer than it: after an interruption the last
    window before now is judged.
    """

    def __init__(self, begins: datetime, window: int, scrape_seconds: float) -> None:
        self.begins = begins
        self.window = window
        self.ends = begins + timedelta(seconds=window)
        self._least = min(float(window), LEAST_SCRAPES * scrape_seconds)

    def seconds(self, at: datetime) -> float:
        """Length of the range that ends at `at`: 0 until there can be anything in it."""
        return max(0.0, min(float(self.window), (at - self.begins).total_seconds()))

    def worth_a_look(self, at: datetime) -> bool:
        """Whether there are scrapes enough for a rate."""
        return self.seconds(at) >= self._least

    def over(self, at: datetime) -> bool:
        """Whether the window was held in full."""
        return at >= self.ends

    def stops(self, said: Judgement, at: datetime) -> bool:
        """Whether the phase is decided: a breach at once, all else when the window is over."""
        return said.verdict is Verdict.BREACH or self.over(at)


@dataclass(frozen=True)
class Seen:
    """One look at a phase; `problem` where Prometheus could not be asked."""

    judgement: Judgement
    figures: dict[str, Figures] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def unanswered(cls, problem: str) -> Seen:
        """A look that saw nothing."""
        return cls(Judgement(Verdict.NO_DATA, (problem,)), problem=problem)


def hold(
    watch: Watch,
    look: Callable[[float], Seen],
    *,
    scrape_seconds: float,
    say: Callable[[datetime, Seen | None], None],
    clock: Callable[[], datetime],
    pause: Callable[[float], None],
) -> Seen:
    """Hold a phase until it is decided, and return what decided it.

    `look` is given the range in seconds, and called once a scrape at most; `say` is called before every
    pause. Where Prometheus can't be asked when the window is over, it is asked again for a few scrapes; then
    that is no data.
    """
    seen: Seen | None = None
    next_look = clock()
    asked_in_vain: datetime | None = None
    while True:
        at = clock()
        over = watch.over(at)
        if over or (watch.worth_a_look(at) and at >= next_look):
            seen = look(watch.seconds(at))
            next_look = at + timedelta(seconds=scrape_seconds)
            asked_in_vain = (asked_in_vain or at) if over and seen.problem else None
            waited = (at - asked_in_vain).total_seconds() if asked_in_vain else 0.0
            patient = asked_in_vain is not None and waited < _PATIENCE_SCRAPES * scrape_seconds
            if watch.stops(seen.judgement, at) and not patient:
                return seen
        say(at, seen)
        left = (watch.ends - clock()).total_seconds()
        pause(min(SAY_EVERY, left if left > 0 else scrape_seconds))
