"""The harness on the trial: killed after any of its steps, it ends well when it is run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controller import Controller
from tests.playbooks.conftest import TRIAL
from tests.system.killing import NotKilledError, Step, kill_after, listed, moments, spread, trace
from tests.waiting import eventually

STEPS = ["Begin", "Read the inventory again", "Move away", "Wait", "Move there", "End"]


def test_the_steps_are_those_of_the_playbook(controller: Controller) -> None:
    command = controller.command(TRIAL, "-e", "region=fra1")
    assert [step.name for step in trace(command, controller.environment)] == STEPS
    assert listed(command, controller.environment) == STEPS, "what only a failure leads to is not listed"


def test_a_step_that_changes_nothing_is_no_moment_of_its_own(controller: Controller, tmp_path: Path) -> None:
    playbook = tmp_path / "looks.yml"
    playbook.write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - {name: First, ansible.builtin.debug: {msg: one}}\n"
        "    - {name: Look, ansible.builtin.debug: {msg: two}}\n"
        "    - {name: Change, ansible.builtin.debug: {}, loop: [3, 4], changed_when: item == 3}\n"
        "    - {name: Left out, ansible.builtin.debug: {msg: five}, changed_when: true, when: false}\n"
        "    - {name: Last, ansible.builtin.debug: {msg: six}}\n"
    )
    steps = trace(controller.command(playbook), controller.environment)
    assert [step.name for step in moments(steps)] == ["First", "Change", "Last"]


@pytest.mark.parametrize("step", [Step(*each) for each in enumerate(STEPS, 1)], ids=str)
def test_killed_after_a_step_it_converges(controller: Controller, step: Step) -> None:
    command = controller.command(TRIAL, "-e", "region=fra1")
    kill_after(step, command, controller.environment)
    eventually(lambda: controller.heartbeats() == [], "no heartbeat outlives its controller")
    again = controller.play(TRIAL, "-e", "region=fra1")
    assert again.returncode == 0, again.stdout
    state = controller.record.state()
    assert state.active_region == "fra1"
    assert state.lock is None
    assert controller.record.verify().ok


def test_killed_after_its_last_step_it_has_not_given_the_lease_back(
    controller: Controller, tmp_path: Path
) -> None:
    playbook = tmp_path / "short.yml"
    playbook.write_text("- hosts: localhost\n  tasks:\n    - operation: {state: begin, operation: trial}\n")
    kill_after(Step(1, "operation"), controller.command(playbook), controller.environment)
    assert controller.record.state().lock is not None
    assert controller.play(playbook).returncode == 0
    assert "lease.resume" in {event.action for event in controller.record.events()}
    assert controller.record.state().lock is None


def test_a_run_that_never_comes_to_the_step_is_an_error(controller: Controller) -> None:
    command = controller.command(TRIAL, "-e", "region=fra1")
    with pytest.raises(NotKilledError, match="ended with 0, last step 6 End"):
        kill_after(Step(7, "Never"), command, controller.environment)
    with pytest.raises(NotKilledError, match="after 3 Other: ended with -9, last step 3 Move away"):
        kill_after(Step(3, "Other"), command, controller.environment)


def test_steps_are_spread_from_the_first_to_the_last() -> None:
    steps = [Step(number, "") for number in range(1, 11)]
    assert [step.number for step in spread(steps, 4)] == [1, 4, 7, 10]
    with pytest.raises(AssertionError, match="10 steps"):
        spread(steps, 11)
