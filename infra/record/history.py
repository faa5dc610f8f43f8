"""What was done to an environment, as people read it: operations made of the log's events (REC-1). Pure.

Nothing but the log is asked: who holds the lease between which events, what the events say of the operation,
and what the states after them differ in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from infra.record.model import Event, Release, Result, State

BOOTSTRAP = "bootstrap"
SITE = "site"
SECRETS_AGE = "secrets-age"
ROLLBACK = "rollback"
FAILOVER = "failover"

_RESUMES = "lease.resume"
_TAKES = ("lease.acquire", _RESUMES, "lease.take", "lease.preempt")
_RELEASE = "lease.release"
_UNDONE = (Result.ROLLED_BACK, Result.ROLLBACK_FAILED)
_SHORT = 12
_URL = re.compile(r"https?://[^\s<>]+")


@dataclass(frozen=True)
class Change:
    """Something of the state that an operation left different; texts for people."""

    what: str
    before: str
    after: str

    @property
    def said(self) -> str:
        """One phrase."""
        return f"{self.what} {self.after}" if not self.before else f"{self.what} {self.before} → {self.after}"


@dataclass(frozen=True)
class Entry:
    """One operation. `result` STARTED: it still runs. `duration` in seconds.

    `before` is the release that served when it began, `release` the one after it, `digest` what it was about,
    if anything. `resumed`: how often it was taken up again after it had been killed. `incident`: what the
    operator linked it to.
    """

    operation: str
    operation_id: str
    who: str
    host: str
    began: datetime
    result: Result
    duration: float | None
    release: Release
    before: Release
    digest: str | None
    why: str
    message: str
    changes: tuple[Change, ...]
    evidence: tuple[str, ...]
    resumed: int
    first_event: int
    last_event: int
    incident: str

    @property
    def undone(self) -> bool:
        """Whether it belongs in the rollback log: a way back was taken, by command or by itself."""
        return self.operation in (ROLLBACK, FAILOVER) or self.result in _UNDONE

    @property
    def of_interest(self) -> bool:
        """Whether the change log has it.

        Site plays are only there where they changed the record's state, checks of ages of secrets where they
        did not end well.
        """
        if self.operation == SECRETS_AGE:
            return self.result is not Result.OK
        return self.operation != SITE or bool(self.changes)

    def document(self) -> dict[str, Any]:
        """JSON."""
        return {
            "operation": self.operation,
            "operation_id": self.operation_id,
            "who": self.who,
            "host": self.host,
            "began": self.began.isoformat(),
            "result": self.result.value,
            "duration": self.duration,
            "digest": self.digest,
            "release": self.release.model_dump(mode="json"),
            "release_before": self.before.model_dump(mode="json"),
            "why": self.why,
            "message": self.message,
            "changes": [vars(change) for change in self.changes],
            "evidence": list(self.evidence),
            "resumed": self.resumed,
            "events": [self.first_event, self.last_event],
            "incident": self.incident,
        }


def short(release: Release) -> str:
    """A release as people recognise it: the begin of its digest, and of the commit."""
    return f"{release.digest.removeprefix('sha256:')[:_SHORT]} ({release.git_sha[:7]})"


def entries(events: Iterable[Event]) -> list[Entry]:
    """All operations of a log, newest first; `events` are all of them, oldest first."""
    reader = _Reader()
    for event in events:
        reader.read(event)
    return [run.entry(reader.holder) for run in reversed(reader.runs)]


@dataclass
class _Run:
    """What is known of an operation so far."""

    operation: str
    operation_id: str
    who: str
    host: str
    began: datetime
    first: State
    last: State
    first_event: int
    last_event: int
    token: int | None = None
    why: str = ""
    message: str = ""
    result: Result | None = None
    duration: float | None = None
    digest: str | None = None
    ended: bool = False
    evidence: list[str] = field(default_factory=list)
    resumed: int = 0
    incident: str = ""

    def entry(self, holder: int | None) -> Entry:
        result = self.result
        if result is None:
            result = Result.STARTED if self.token is not None and self.token == holder else Result.UNCERTAIN
        return Entry(
            operation=self.operation,
            operation_id=self.operation_id,
            who=self.who,
            host=self.host,
            began=self.began,
            result=result,
            duration=self.duration,
            release=self.last.release,
            before=self.first.release,
            digest=self.digest,
            why=self.why,
            message=self.message or ("" if self.result or result is Result.STARTED else "it did not end"),
            changes=tuple(_changes(self.first, self.last)),
            evidence=tuple(self.evidence),
            resumed=self.resumed,
            first_event=self.first_event,
            last_event=self.last_event,
            incident=self.incident,
        )

    def take(self, event: Event, state: State) -> None:
        """An event that it logged."""
        self.last, self.last_event = state, event.seq
        self.digest = event.digest or self.digest
        self.why = self.why or (event.why if event.result is Result.STARTED else "")
        self.evidence += [str(each.get("key", "")) for each in event.details.get("evidence") or ()]
        self.incident = str(event.details.get("incident") or self.incident)
        kind = event.action.rpartition(".")[2]
        if event.action == _RELEASE:
            self.ended = True
            if self.result is None:
                self.result, self.duration = event.result, event.duration
        elif kind == "failed":
            self.message = event.why
        elif kind == "end" and event.action == f"{self.operation}.end":
            self.result, self.duration = event.result, event.duration
            self.message = event.why or self.message


class _Reader:
    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self._state: State | None = None
        self._by_token: dict[int, _Run] = {}

    @property
    def holder(self) -> int | None:
        """Token of the lease that is held at the end."""
        return self._state.lock.token if self._state and self._state.lock else None

    def read(self, event: Event) -> None:
        before = self._state
        after = event.state or before
        if after is None:
            return
        self._state = after
        if event.action in _TAKES and event.token is not None:
            self._taken(event, event.token, before or after)
        elif (run := self._run_of(event)) is not None:
            run.take(event, after)
        elif before is None or _changed(before, after):
            self.runs.append(_alone(event, before or after, after))

    def _taken(self, event: Event, token: int, state: State) -> None:
        former = self._by_token.get(int(event.details.get("token", 0)))
        if event.action == _RESUMES and former is not None:
            former.resumed += 1
            former.token, former.last_event = token, event.seq
            former.result = None
            self._by_token[token] = former
            return
        if former is not None and not former.ended and former.result is None:
            verb = "pre-empted" if event.action == "lease.preempt" else "taken over"
            former.message = f"{verb} by {event.who} for {event.details.get('operation')}"
        run = _Run(
            operation=str(event.details.get("operation", "")),
            operation_id=event.operation_id or "",
            who=event.who,
            host=event.host,
            began=event.at,
            first=state,
            last=state,
            first_event=event.seq,
            last_event=event.seq,
            token=token,
            why=event.why,
        )
        self.runs.append(run)
        self._by_token[token] = run

    def _run_of(self, event: Event) -> _Run | None:
        if event.token is not None:
            return self._by_token.get(event.token)
        # What an operation says after it lost its lease carries no token any more.
        named = (run for run in reversed(self.runs) if event.operation_id == run.operation_id)
        return next(named, None) if event.operation_id else None


def _alone(event: Event, before: State, after: State) -> _Run:
    return _Run(
        operation=event.action,
        operation_id=event.operation_id or "",
        who=event.who,
        host=event.host,
        began=event.at,
        first=before,
        last=after,
        first_event=event.seq,
        last_event=event.seq,
        why=event.why,
        result=event.result,
        duration=event.duration,
        digest=event.digest,
        ended=True,
    )


def _changed(before: State, after: State) -> bool:
    return next(iter(_changes(before, after)), None) is not None


def _changes(before: State, after: State) -> Iterator[Change]:
    if before.release.digest != after.release.digest:
        yield Change("release", short(before.release), short(after.release))
    for switch, on in after.switches.items():
        if before.switches[switch] is not on:
            yield Change(switch.value, _on(before.switches[switch]), _on(on))
    if before.maintenance.enabled is not after.maintenance.enabled:
        yield Change("maintenance", _on(before.maintenance.enabled), _on(after.maintenance.enabled))
    planned = [f"{each.at:%Y-%m-%d %H:%M} UTC" if each else "none" for each in _windows(before, after)]
    if planned[0] != planned[1]:
        yield Change("planned maintenance", planned[0], planned[1])
    if before.active_host != after.active_host:
        yield Change(
            "active",
            f"{before.active_host} ({before.active_region})",
            f"{after.active_host} ({after.active_region})",
        )
    new = [name for name in after.hosts if name not in before.hosts]
    if new:
        yield Change("new hosts", "", ", ".join(new))


def _windows(*states: State) -> list[Any]:
    return [state.maintenance.window for state in states]


def _on(value: bool) -> str:
    return "on" if value else "off"


def row(entry: Entry) -> tuple[str, ...]:
    """Operation, result, duration, who, release after it, what changed, why: for a table."""
    return (
        entry.operation,
        _result(entry),
        took(entry.duration),
        entry.who,
        short(entry.release),
        "; ".join(change.said for change in entry.changes) or "nothing",
        "; ".join(part for part in (entry.why, entry.message, entry.incident) if part),
    )


def change_log(environment: str, shown: Sequence[Entry], head: str) -> str:
    """The change log as Markdown, newest first; `head` says of which log it was made."""
    rows = [(f"{entry.began:%Y-%m-%d %H:%M:%S}", *row(entry)) for entry in shown]
    columns = ("when (UTC)", "operation", "result", "took", "who", "release after it", "changed", "why")
    return "\n".join([f"# Change log of {environment}", "", _made_of(head), "", *_table(columns, rows), ""])


def rollback_log(environment: str, shown: Sequence[Entry], head: str) -> str:
    """The rollback log as Markdown, newest first: every way back, by command or by itself."""
    lines = [f"# Rollback log of {environment}", "", _made_of(head), ""]
    undone = [entry for entry in shown if entry.undone]
    if not undone:
        lines += ["No rollback yet.", ""]
    for entry in undone:
        facts = {
            "result": _result(entry),
            "who": f"{entry.who} on {entry.host}",
            "took": took(entry.duration),
            "was about": entry.digest or "",
            "release before": f"{entry.before.reference}, commit {entry.before.git_sha}",
            "release after": f"{entry.release.reference}, commit {entry.release.git_sha}",
            "changed": "; ".join(change.said for change in entry.changes),
            "why": entry.why,
            "what happened": entry.message,
            "incident": entry.incident,
            "evidence": ", ".join(entry.evidence),
            "events": f"{entry.first_event} to {entry.last_event}",
        }
        lines += [f"## {entry.began:%Y-%m-%d %H:%M:%S} UTC: {_escaped(entry.operation)}", ""]
        lines += [f"- {name}: {_linked(value)}" for name, value in facts.items() if value]
        lines.append("")
    return "\n".join(lines)


def took(seconds: float | None) -> str:
    """A duration for people; empty where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def _result(entry: Entry) -> str:
    said = "running" if entry.result is Result.STARTED else entry.result.value
    if not entry.resumed:
        return said
    return f"{said}, resumed {'once' if entry.resumed == 1 else f'{entry.resumed} times'}"


def _made_of(head: str) -> str:
    return f"Made of the environment's record, {head}; not edited by hand."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["Nothing yet."]
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows),
    ]


_SPECIAL: Mapping[int, str] = str.maketrans(
    {
        "\\": r"\\",
        "|": r"\|",
        "[": r"\[",
        "<": "&lt;",
        ">": "&gt;",
        "`": r"\`",
        "*": r"\*",
        "_": r"\_",
        "\n": " ",
        "\r": " ",
    }
)


def _linked(text: str) -> str:
    return f"<{text}>" if _URL.fullmatch(text) else _escaped(text)


def _escaped(text: str) -> str:
    return text.translate(_SPECIAL)
