"""`switch.yml` where no host can be reached: what is recorded and said, and that others yield to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from infra.record import LeaseLostError, Result, Switch
from tests.controller import Controller, outputs

PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "switch.yml"
CHAT = Switch.FEATURE_AGENT_CHAT


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    raw = outputs({"url": f"file://{tmp_path}/record"})
    # Nobody answers there, whatever runs on this computer.
    raw["settings"]["dns"]["server"] = "127.0.0.1"
    raw["settings"]["dns"]["port"] = 1
    services = {"agents-blue": {"image": "agents", "profiles": ["blue"]}}
    raw["projects"]["primary"] = {
        "compose": {"name": "agents-service", "services": services},
        "env_files": {".env": {}},
    }
    made = Controller(tmp_path, raw)
    made.bootstrap()
    return made


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def test_a_switch_is_recorded_and_what_has_it_not_is_named(controller: Controller) -> None:
    with pytest.raises(LeaseLostError), controller.record.lease("deploy", who="bob"):
        done = controller.play(PLAYBOOK, "-e", 'set={"FEATURE_AGENT_CHAT": false}', "-e", "why='bad answers'")

    assert done.returncode == 12, done.stdout
    assert "NOT CONFIRMED on primary (unreachable)" in said(done), done.stdout
    assert "the functions of icupalocalagentsprod" in said(done)
    state = controller.record.state()
    assert state.switches == {**dict.fromkeys(Switch, True), CHAT: False}
    assert state.lock is None
    (event,) = [event for event in controller.record.events() if event.action == "switch.set"]
    assert (event.who, event.why, event.details) == ("ada", "bad answers", {"switches": {CHAT: False}})
    (end,) = [event for event in controller.record.events() if event.action == "switch.end"]
    assert end.result is Result.UNCERTAIN
    assert end.details["places"]["primary"] == "unreachable"


def test_the_preset_turns_the_service_off(controller: Controller) -> None:
    controller.play(PLAYBOOK, "-e", "preset=p0")
    off = {switch for switch, on in controller.record.state().switches.items() if not on}
    assert off == {
        Switch.AI_REALTIME_ENABLED,
        Switch.AI_RESPONSES_ENABLED,
        Switch.WHATSAPP_INTEGRATION_ENABLED,
    }


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (["-e", "switch=FEATURE_CHAT", "-e", "to=off"], "no switch is called 'FEATURE_CHAT'; accepted: AI_"),
        (["-e", "switch=FEATURE_AGENT_CHAT", "-e", "to=of"], "found 'of'; accepted: on or off"),
        ([], "name what to set in one way"),
    ],
)
def test_what_is_not_understood_touches_nothing(
    controller: Controller, options: list[str], refusal: str
) -> None:
    before = controller.record.last_event()
    done = controller.play(PLAYBOOK, *options)
    assert done.returncode == 2, done.stdout
    assert refusal in said(done)
    assert controller.record.last_event() == before


def test_check_mode_says_what_it_would_do_and_does_nothing(controller: Controller, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in (tmp_path / "record").rglob("*") if file.is_file()}
    done = controller.play(PLAYBOOK, "--check", "-e", "switch=FEATURE_AGENT_CHAT", "-e", "to=off")
    assert "would do FEATURE_AGENT_CHAT off" in said(done)
    assert "would do tell #ops-ai: switch: FEATURE_AGENT_CHAT off" in said(done)
    assert {file: file.read_bytes() for file in (tmp_path / "record").rglob("*") if file.is_file()} == before
