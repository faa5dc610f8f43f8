"""States and events of releases a, b, c for the tests of this folder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.record import Event, HostState, Release, Result, Slot, State, Switch
from infra.record.model import NO_HASH
from infra.release.model import Checked

IMAGE = "registry.example/agents"
HOSTS = ("primary", "standby")


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def release(letter: str) -> Release:
    return Release(
        image=IMAGE,
        digest=digest(letter),
        git_sha=letter * 40,
        deployed_at=datetime(2026, 1, 2, tzinfo=UTC),
        by="alice",
    )


def checked(letter: str) -> Checked:
    return Checked(
        image=IMAGE,
        digest=digest(letter),
        git_sha=letter * 40,
        schema_revision=None,
        verified="signature",
        local=True,
    )


def state(letter: str = "a", *former: str) -> State:
    """Both hosts serve a release, after others."""
    return State(
        release=release(letter),
        previous_releases=tuple(map(release, former)),
        hosts={name: HostState(slots={Slot.BLUE: digest(letter), Slot.GREEN: None}) for name in HOSTS},
        switches=dict.fromkeys(Switch, True),
        active_region="here",
        active_host="primary",
    )


def event(
    action: str,
    letter: str | None = None,
    *,
    operation_id: str | None = None,
    result: Result = Result.OK,
    **details: Any,
) -> Event:
    return Event.seal(
        {
            "seq": 1,
            "id": "x",
            "at": datetime(2026, 1, 2, tzinfo=UTC),
            "who": "alice",
            "host": "desk",
            "action": action,
            "digest": None if letter is None else digest(letter),
            "operation_id": operation_id,
            "result": result,
            "details": details,
            "previous": NO_HASH,
        }
    )
