"""The action, run as a playbook runs it, on a controller without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from infra.record import Result
from tests.controller import Controller, outputs

PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "lighthouse.yml"


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(
        tmp_path, outputs({"url": f"file://{tmp_path}/record"}), {"XDG_CACHE_HOME": str(tmp_path)}
    )
    made.bootstrap()
    return made


def test_without_a_browser_it_says_so_and_is_no_failure(controller: Controller) -> None:
    done = controller.play(PLAYBOOK, "-v")
    assert done.returncode == 0, done.stdout
    assert "Lighthouse not run: no browser" in done.stdout
    *_, event = controller.record.events()
    assert (event.action, event.result) == ("lighthouse", Result.OK)
    assert event.details["run"] is False
    assert "lighthouse" in event.details["reason"]


def test_a_dry_run_measures_and_logs_nothing(controller: Controller) -> None:
    before = controller.record.last_event()
    assert controller.play(PLAYBOOK, "--check").returncode == 0
    assert controller.record.last_event() == before


@pytest.mark.parametrize(
    ("minimum", "said"),
    [('{"speed": 5}', "unknown speed; accepted: performance"), ('{"performance": "x"}', "0 to 100")],
)
def test_a_minimum_that_is_none_is_refused(controller: Controller, minimum: str, said: str) -> None:
    done = controller.play(PLAYBOOK, "-e", f'{{"minimum": {minimum}}}')
    assert done.returncode != 0
    assert said in done.stdout
