"""The actions of deploys over a real record: what they write, what roles are told, what a dry run leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.record import Slot
from tests.controller import Controller

STEPS = Path(__file__).resolve().parent / "steps.yml"
NEW = f"sha256:{'2' * 64}"
ALL = ("start", "switch", "stop")


def moved(
    controller: Controller, *steps: str, check: bool = False, broken: bool = False
) -> tuple[int, dict[str, Any]]:
    """Exit code, and what the roles are told after the steps."""
    given = json.dumps({"steps": steps, "digest": NEW, "broken": broken})
    done = controller.play(STEPS, "-e", given, *(["--check"] if check else []))
    # Ansible wraps long texts where they have spaces.
    told = re.search(r"TOLD (\{.*?\})'", " ".join(done.stdout.split()))
    assert told, done.stdout
    document: dict[str, Any] = json.loads(told[1])
    return done.returncode, document


@pytest.mark.parametrize(
    ("steps", "active", "running", "fallback"),
    [
        (ALL[:1], "blue", ["blue", "green"], None),
        (ALL[:2], "green", ["blue", "green"], "blue"),
        (ALL, "green", ["green"], None),
    ],
)
def test_each_step_is_in_the_record_and_is_what_roles_are_told(
    controller: Controller, steps: tuple[str, ...], active: str, running: list[str], fallback: str | None
) -> None:
    code, told = moved(controller, *steps)
    assert code == 0
    runtime = told["runtime"]
    assert (runtime["active_slot"], runtime["running"], runtime["fallback"]) == (active, running, fallback)
    assert told["fence"] == controller.record.state().fencing_token > 0
    state = controller.record.state()
    assert (state.host("primary").active_slot, list(state.host("primary").running)) == (active, running)
    actions = [event.action for event in controller.record.events() if event.action.startswith("deploy.")]
    assert actions == ["deploy.begin", *(f"deploy.{step}" for step in steps), "deploy.end"]


def test_a_step_that_was_taken_is_not_logged_again(controller: Controller) -> None:
    moved(controller, "start")
    assert moved(controller, *ALL)[0] == 0
    started = [event for event in controller.record.events() if event.action == "deploy.start"]
    assert len(started) == 1
    assert started[0].details == {"host": "primary", "slot": "green", "before": f"sha256:{'1' * 64}"}


def test_a_dry_run_foretells_and_writes_nothing(controller: Controller) -> None:
    before = controller.record.last_event()
    code, told = moved(controller, *ALL, check=True)
    assert (code, told["runtime"]["running"], told["fence"]) == (0, ["green"], 0)
    assert controller.record.last_event() == before
    assert controller.record.state().host("primary").active_slot is Slot.BLUE


def test_a_failure_that_is_not_undone_sets_the_exit_code(controller: Controller) -> None:
    assert moved(controller, *ALL[:2], broken=True)[0] == 11
    (end,) = [event for event in controller.record.events() if event.action == "deploy.end"]
    assert "primary serves sha256:222222222222" in end.why


def outcome(controller: Controller, *steps: str, **given: Any) -> dict[str, Any]:
    """What everybody would be told."""
    options = json.dumps({"steps": steps, "digest": NEW, **given})
    done = controller.play(STEPS, "-e", options)
    told = re.search(r"OUTCOME (\{.*?\}\})'?", " ".join(done.stdout.split()))
    assert told, done.stdout
    found: dict[str, Any] = json.loads(told[1].replace("''", "'"))
    return found


def test_flags_are_only_called_off_where_the_record_says_so(controller: Controller) -> None:
    found = outcome(controller, *ALL, flags=["new.flag"])
    assert found["result"] == "uncertain"
    assert "new.flag were not turned off: the host that has them did not answer" in found["message"]
    assert "flags turned off" not in found["facts"]
    assert found["details"]["flags"] == []
    found = outcome(controller, *ALL[:2], broken=True, flags=["new.flag"])
    assert "flags turned off" not in found["facts"]
