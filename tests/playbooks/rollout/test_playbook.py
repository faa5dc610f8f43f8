"""The playbook of a rollout end to end: a real controller and record; flags and figures are files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.paths import REPOSITORY
from infra.procedures.rollout import ACTION, GROUPS, Step
from infra.record import Event
from tests.controller import Controller, kill, outputs

HERE = Path(__file__).resolve().parent
PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "rollout.yml"
FLAG = "ai_waiter.v2.enabled"
WINDOW = 4
NOBODY: tuple[str, ...] = ()
HEALTHY = {
    "turns": 600,
    "p95_seconds": 0.4,
    "error_rate": 0.001,
    "guardrail_rate": 0,
    "age": 1,
    "samples": 20,
}


class Rollout(Controller):
    """A controller whose one host is this computer."""

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.play(PLAYBOOK, *self.options(), *options)

    def options(self) -> list[str]:
        here = {"ansible_connection": "local", "ansible_become": False, "flag": FLAG, "window": WINDOW}
        return ["-e", json.dumps(here)]

    def says(self, **figures: Mapping[str, Any]) -> None:
        """What Prometheus says from now on."""
        (self.home / "figures.json").write_text(json.dumps(figures))

    def healthy(self, **changes: Mapping[str, Any]) -> None:
        self.says(**{group: {**HEALTHY, **changes.get(group, {})} for group in GROUPS})

    @property
    def on(self) -> tuple[str, ...]:
        """For whom the flag is on."""
        rows = json.loads((self.home / "flags.json").read_text()).get(FLAG, {})
        return tuple(group for group in GROUPS if rows.get(group) == "on")

    @property
    def phases(self) -> list[Event]:
        return [event for event in self.record.events() if event.action == ACTION]

    @property
    def steps(self) -> list[tuple[str, str]]:
        return [(event.details["group"], event.details["step"]) for event in self.phases]

    @property
    def calls(self) -> list[str]:
        file = self.home / "calls"
        return [json.loads(line)[0] for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was announced."""
        file = self.home / "messages"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


STEPS = [(group, step.value) for group in GROUPS for step in (Step.OPENED, Step.HOLDING, Step.JUDGED)]


@pytest.fixture
def rollout(tmp_path: Path) -> Rollout:
    raw = outputs({"url": f"file://{tmp_path}/record"})
    raw["settings"]["metrics"]["scrape_seconds"] = 1
    made = Rollout(
        tmp_path,
        raw,
        {
            "ANSIBLE_ACTION_PLUGINS": f"{HERE}/action:{REPOSITORY}/ansible/plugins/action",
            "ANSIBLE_LIBRARY": f"{HERE}/modules:{REPOSITORY}/ansible/plugins/modules",
        },
    )
    made.bootstrap()
    (tmp_path / "flags.json").write_text("{}")
    made.healthy()
    return made


def test_a_healthy_flag_comes_to_everybody(rollout: Rollout) -> None:
    done = rollout.run()
    assert done.returncode == 0, done.stdout
    assert rollout.on == GROUPS
    assert rollout.steps == STEPS
    assert f"{FLAG} is on for everybody" in done.stdout
    for group in GROUPS:
        began, judged = (
            next(e for e in rollout.phases if (e.details["group"], e.details["step"]) == (group, step))
            for step in (Step.HOLDING, Step.JUDGED)
        )
        assert (judged.at - began.at).total_seconds() >= WINDOW
        assert judged.details["enabled"]
        assert judged.details["figures"][group]["turns"] == 600
    assert rollout.record.state().lock is None
    assert [message["channel"] for message in rollout.messages] == ["#deployments"]
    assert f"{FLAG} is on for everybody" in rollout.messages[0]["text"]

    calls = rollout.calls
    again = rollout.run()
    assert again.returncode == 0, again.stdout
    assert "already" in again.stdout
    assert rollout.calls == [*calls, "flags_list"]
    assert rollout.steps == STEPS
    assert len(rollout.messages) == 1


def test_a_breach_turns_the_flag_off_for_everybody(rollout: Rollout) -> None:
    rollout.healthy(pilot={"error_rate": 0.05})
    done = rollout.run()
    assert done.returncode == 10, done.stdout
    assert rollout.on == NOBODY
    assert rollout.steps == [*STEPS[:6], ("all", "off")]
    assert "errors 5.00%" in done.stdout
    judged, off = rollout.phases[-2:]
    assert (judged.details["verdict"], judged.result) == ("breach", "failed")
    assert (off.details["enabled"], off.result) == (False, "rolled-back")
    ends = [event for event in rollout.record.events() if event.action == "rollout.end"]
    assert [event.result for event in ends] == ["rolled-back"]
    assert len(rollout.messages) == 1
    assert "is off for everybody: breach in phase pilot" in rollout.messages[0]["text"]


def test_an_empty_window_is_a_no_go(rollout: Rollout) -> None:
    rollout.says()
    done = rollout.run()
    assert done.returncode == 10, done.stdout
    assert rollout.on == NOBODY
    assert rollout.phases[-2].details["verdict"] == "no-data"


def test_a_prometheus_that_is_away_is_a_no_go(rollout: Rollout) -> None:
    (rollout.home / "figures.json").unlink()
    done = rollout.run()
    assert done.returncode == 10, done.stdout
    assert rollout.on == NOBODY
    assert "Connection refused" in rollout.phases[-2].why


def test_a_flag_that_cannot_be_turned_on_is_turned_off(rollout: Rollout) -> None:
    (rollout.home / "flags_set.fails").touch()
    done = rollout.run()
    assert done.returncode == 10, done.stdout
    assert rollout.steps == [("internal", "opened"), ("internal", "judged"), ("all", "off")]
    assert "Supabase answered 503" in done.stdout


def test_a_flag_that_cannot_be_turned_off_is_said_to_be_on(rollout: Rollout) -> None:
    rollout.healthy(internal={"error_rate": 0.5})
    (rollout.home / "flags_disable.fails").touch()
    done = rollout.run()
    assert done.returncode == 11, done.stdout
    assert rollout.on == ("internal",)
    (rollout.home / "flags_disable.fails").unlink()
    done = rollout.run()
    assert done.returncode == 10, done.stdout
    assert rollout.on == NOBODY
    assert rollout.steps == [*STEPS[:3], ("all", "off")]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"flag": 'x"}'}, "must be the key of a feature flag"),
        ({"window": "3"}, "at least 4"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_touched(
    rollout: Rollout, option: dict[str, str], said: str
) -> None:
    done = rollout.run("-e", json.dumps(option))
    assert done.returncode == 2, done.stdout
    assert said in done.stdout
    assert (rollout.calls, rollout.steps) == ([], [])


def test_a_flag_that_somebody_turned_on_by_hand_is_refused_and_left_alone(rollout: Rollout) -> None:
    (rollout.home / "flags.json").write_text(json.dumps({FLAG: {"full": "on"}}))
    done = rollout.run()
    assert done.returncode == 2, done.stdout
    assert "is on for full, where no rollout" in done.stdout
    assert rollout.on == ("full",)
    assert rollout.steps == []


def hashed(directory: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        found.update(f"{file}\0".encode() + file.read_bytes())
    return found.hexdigest()


def test_a_dry_run_shows_the_plan_with_limits_and_figures_and_changes_nothing(rollout: Rollout) -> None:
    before = hashed(rollout.home / "record"), (rollout.home / "flags.json").read_text()
    done = rollout.run("--check")
    assert done.returncode == 0, done.stdout
    assert (hashed(rollout.home / "record"), (rollout.home / "flags.json").read_text()) == before
    assert rollout.calls == ["flags_list"]
    for group in GROUPS:
        assert f"{group}: on, held for {WINDOW} s; goes on with at least 50 turns" in done.stdout
        assert f"{group}, last {WINDOW} s: 600 turns" in done.stdout
    assert "p95 at most 5 s, errors at most 2.00%" in done.stdout


def until_holding(rollout: Rollout, group: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while (group, "holding") not in rollout.steps:
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_run_that_is_killed_in_a_window_goes_on_with_it(rollout: Rollout) -> None:
    with rollout.playing(PLAYBOOK, *rollout.options()) as process:
        until_holding(rollout, "pilot", process)
        kill(process)
    assert rollout.on == ("internal", "pilot")
    done = rollout.run()
    assert done.returncode == 0, done.stdout
    assert rollout.steps == STEPS, "no phase was begun twice or left out"
    began, judged = rollout.phases[4:6]
    assert (judged.at - began.at).total_seconds() >= WINDOW


def test_a_run_whose_lease_is_taken_away_says_that_nobody_watches(rollout: Rollout) -> None:
    with rollout.playing(PLAYBOOK, *rollout.options()) as process:
        until_holding(rollout, "internal", process)
        rollout.record.acquire("switch", preempt=True)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 12, output
    assert "UNCERTAIN" in output
    assert "nobody watching it" in output
    assert rollout.on == ("internal",)
    assert rollout.steps == STEPS[:2], "who has no lease writes no verdict"
