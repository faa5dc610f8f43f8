"""The public page of the running stack, measured by a real browser (DEP-2)."""

from __future__ import annotations

import pytest

from infra.lighthouse import CATEGORIES
from infra.outputs.read import read_outputs
from infra.record import Result, open_record
from tests.running import STACK, command, succeeds

pytestmark = pytest.mark.system

LIGHTHOUSE = ["ansible-playbook", "ansible/playbooks/lighthouse.yml", "-e", f"stack={STACK}"]


def test_the_public_page_is_measured_and_its_scores_are_kept() -> None:
    succeeds(LIGHTHOUSE)
    *_, event = [
        event for event in open_record(read_outputs(STACK).record).events() if event.action == "lighthouse"
    ]
    assert event.result is Result.OK
    assert event.details["run"] is True
    assert set(event.details["scores"]) == set(CATEGORIES)
    # Whoever has no session sees the login, by a name that only the stack's resolver knows.
    assert event.details["url"].startswith(f"{read_outputs(STACK).settings.login.issuer}/")


def test_a_score_that_is_too_low_is_said() -> None:
    done = command(
        [*LIGHTHOUSE, "-e", '{"minimum": {"best-practices": 100, "performance": 100, "accessibility": 100}}']
    )
    assert done.returncode != 0
    assert "TOO LOW" in done.stdout
