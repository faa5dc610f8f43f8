"""What an operation has done, by the record."""

from __future__ import annotations

import pytest

from infra.procedures.operation import Operation, has_changed
from infra.record import Event, Result
from infra.record.model import now
from tests.unit.procedures.releases import event, state

OWN = Operation(name="deploy", id="deploy-1", token=7, started_at=now())


def wrote(action: str, operation_id: str = "deploy-1") -> Event:
    return event(action, operation_id=operation_id).model_copy(update={"state": state()})


@pytest.mark.parametrize(
    ("events", "changed"),
    [
        ([wrote("lease.acquire"), event("deploy.begin", operation_id="deploy-1")], False),
        # Killed after the release was recorded, before anybody was told.
        (
            [wrote("deploy.release"), wrote("lease.resume"), event("deploy.begin", operation_id="deploy-1")],
            True,
        ),
        (
            [wrote("deploy.release"), event("deploy.end", operation_id="deploy-1"), wrote("lease.acquire")],
            False,
        ),
        (
            [
                wrote("deploy.start"),
                event("deploy.end", operation_id="deploy-1", result=Result.ROLLED_BACK),
                wrote("deploy.stop"),
            ],
            True,
        ),
        ([wrote("deploy.release", "deploy-2")], False),
    ],
)
def test_what_was_changed_since_it_last_said_how_it_ended(events: list[Event], changed: bool) -> None:
    assert has_changed(events, OWN) is changed
