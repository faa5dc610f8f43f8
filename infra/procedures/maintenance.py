"""Maintenance (DEP-6): which of its acts a command means, at this moment, with this record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.procedures.operation import ProcedureError
from infra.procedures.verdict import took
from infra.record import Maintenance, Window
from infra.record.model import Utc

LATEST = timedelta(hours=12)
"""How long after its time a window may begin: later, nobody expects it any more."""


class Mode(StrEnum):
    """What is asked for by name."""

    ON = "on"
    OFF = "off"
    CANCEL = "cancel"


class Act(StrEnum):
    """What is done."""

    ON = "on"
    OFF = "off"
    CANCEL = "cancel"
    ANNOUNCE = "announce"
    WINDOW = "window"
    DONE = "done"


class Step(StrEnum):
    """Steps of a window that are not done twice, in order."""

    BACKUP = "backup"
    ON = "on"
    SYSTEM = "system"
    RELEASE = "release"
    VERIFY = "verify"
    OFF = "off"
    WATCH = "watch"


class Request(BaseModel):
    """Extra variables of the playbook: either `mode`, or `at` for a planned window; hours of notice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode | None = None
    at: Utc | None = None
    why: str = ""
    short_notice: str = ""
    notice_hours: float = Field(default=48, ge=0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.mode is None) == (self.at is None):
            raise ValueError("name either mode=on|off|cancel or at=<time>, as in at=2026-11-25T02:00Z")
        if not self.why.strip() and (self.mode is Mode.ON or self.at is not None):
            raise ValueError("say why: -e 'why=\"…\"' (people read it in the channel and in the log)")
        return self

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Check extra variables; raises ProcedureError naming everything that is wrong."""
        try:
            return cls.model_validate({name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'maintenance'}:"
                f" {item['msg'].removeprefix('Value error, ')}"
                + (f" (got {item['input']!r})" if item["loc"] else "")
                for item in error.errors(include_url=False)
            )
            raise ProcedureError(wrong) from None

    @property
    def parameters(self) -> dict[str, str]:
        """What makes it this operation and no other."""
        if self.at is not None:
            return {"at": self.at.isoformat()}
        return {"mode": str(self.mode)}


class Plan(BaseModel):
    """The fact `icupa_maintenance`. `done`: steps that are over already; `says` is for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    act: Act
    says: str
    parameters: dict[str, str]
    at: Utc | None = None
    announce: bool = False
    done: tuple[Step, ...] = ()


def clock(moment: datetime) -> str:
    """A moment as people read it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def plan(request: Request, found: Maintenance, now: datetime) -> Plan:
    """What the command means; raises ProcedureError where it must not be done."""
    if request.at is None:
        return _by_mode(request, found)
    if found.completed == request.at:
        return _plan(request, Act.DONE, f"the maintenance of {clock(request.at)} is complete")
    if found.window is None:
        return _unplanned(request, request.at, now)
    if found.window.at != request.at:
        raise ProcedureError(
            f"a maintenance is planned for {clock(found.window.at)} already ({found.window.why});"
            " call it off first: -e mode=cancel"
        )
    return _planned(request, found, found.window, now)


def _plan(request: Request, act: Act, says: str, **more: Any) -> Plan:
    return Plan(act=act, says=says, parameters=request.parameters, at=request.at, **more)


def _by_mode(request: Request, found: Maintenance) -> Plan:
    window = found.window
    match request.mode:
        case Mode.ON:
            return _plan(request, Act.ON, "users get the maintenance answer")
        case Mode.OFF:
            ends = f"; the window of {clock(window.at)} ends with it" if window and window.done else ""
            return _plan(request, Act.OFF, f"users get the service{ends}")
        case _:
            if window is None:
                raise ProcedureError("no maintenance is planned: there is nothing to call off")
            if window.done:
                raise ProcedureError(
                    f"the maintenance of {clock(window.at)} has begun ({', '.join(window.done)} done):"
                    " run it to its end, or turn it off with -e mode=off"
                )
            return _plan(request, Act.CANCEL, f"the maintenance of {clock(window.at)} is called off")


def _unplanned(request: Request, at: datetime, now: datetime) -> Plan:
    notice = timedelta(hours=request.notice_hours)
    ahead = at - now
    if ahead < notice and not request.short_notice:
        given = f"{took(ahead.total_seconds())} ahead" if ahead > timedelta(0) else "in the past"
        raise ProcedureError(
            f"{clock(at)} is {given}; maintenance is announced {request.notice_hours:g} h ahead."
            " Name a later time, or say why it can't wait: -e 'short_notice=\"…\"'"
        )
    if ahead > timedelta(0):
        return _plan(request, Act.ANNOUNCE, f"maintenance is planned for {clock(at)}", announce=True)
    if -ahead > LATEST:
        raise ProcedureError(
            f"{clock(at)} is {took(-ahead.total_seconds())} ago: name the time that is meant"
        )
    return _plan(request, Act.WINDOW, f"the maintenance of {clock(at)} begins", announce=True)


def _planned(request: Request, found: Maintenance, window: Window, now: datetime) -> Plan:
    done = tuple(Step(step) for step in window.done)
    if done:
        says = f"the maintenance of {clock(window.at)} goes on after: {', '.join(done)}"
        return _plan(request, Act.WINDOW, says, done=done)
    if now < window.at and not request.short_notice:
        left = took((window.at - now).total_seconds())
        raise ProcedureError(
            f"the maintenance is planned for {clock(window.at)}, in {left}:"
            " run this command then, or say why it can't wait: -e 'short_notice=\"…\"'"
        )
    if now > window.at + LATEST and not found.enabled and not request.short_notice:
        raise ProcedureError(
            f"the maintenance was planned for {clock(window.at)}, {took((now - window.at).total_seconds())}"
            " ago: call it off (-e mode=cancel) and announce another, or say why now: -e 'short_notice=\"…\"'"
        )
    return _plan(request, Act.WINDOW, f"the maintenance of {clock(window.at)} begins")
