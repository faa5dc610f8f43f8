"""Procedures end to end: a real controller, the lease, the heartbeat, the summary and the exit code."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from infra.record import Evidence, LeaseOverError, Result, Slot
from infra.record.lease import is_over
from infra.record.log import Log
from tests.controller import Controller, kill, outputs, words
from tests.gateway import running_gateway
from tests.playbooks.conftest import PLUGINS, TRIAL
from tests.waiting import eventually


def actions(controller: Controller) -> list[tuple[str, str]]:
    """What the log says after bootstrap: action and result."""
    return [(event.action, event.result.value) for event in controller.record.events(after=1)]


def holds(controller: Controller, *, at: str = "in-between") -> bool:
    """Whether an operation has come to the wait in the middle of the trial."""
    return controller.record.state().active_region == at


def hashed(directory: Path) -> str:
    """One hash of all files."""
    found = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        found.update(f"{file}\0".encode() + file.read_bytes())
    return found.hexdigest()


def test_a_run_ends_well_and_leaves_nothing_behind(controller: Controller) -> None:
    done = controller.play(TRIAL, "-e", "region=fra1", "-e", json.dumps({"why": "a new region"}))
    assert done.returncode == 0, done.stdout
    assert actions(controller) == [
        ("lease.acquire", "started"),
        ("trial.begin", "started"),
        ("trial.step", "ok"),
        ("trial.step", "ok"),
        ("trial.end", "ok"),
        ("lease.release", "ok"),
    ]
    events = list(controller.record.events(after=1))
    assert {event.who for event in events} == {"ada"}
    assert {event.token for event in events} == {1}
    assert events[1].why == "a new region"
    assert events[1].details == {"parameters": {"region": "fra1"}}
    assert events[-2].duration is not None
    assert controller.record.state().lock is None
    block = done.stdout.rpartition("trial: OK")[2]
    assert "did       moved to in-between" in block
    assert "did       moved to fra1" in block
    assert "TASKS RECAP" not in block, "the block comes last"
    eventually(lambda: controller.heartbeats() == [], "the heartbeat has ended")
    assert list((controller.home / ".ansible" / "tmp").iterdir()) == []
    directory = controller.home / ".local/state/icupa/test/operations"
    eventually(lambda: list(directory.iterdir()) == [], "its status is gone")


@pytest.mark.parametrize(
    ("verdict", "code"), [("rolled-back", 10), ("rollback-failed", 11), ("uncertain", 12), ("failed", 2)]
)
def test_the_verdict_is_the_exit_code_and_the_evidence_is_kept(
    controller: Controller, verdict: str, code: int
) -> None:
    done = controller.play(TRIAL, "-e", "region=refused", "-e", f"verdict={verdict}")
    assert done.returncode == code, done.stdout
    assert actions(controller)[-3:] == [
        ("trial.failed", "failed"),
        ("trial.end", verdict),
        ("lease.release", verdict),
    ]
    block = done.stdout.rpartition("=====\ntrial:")[2]
    assert block.startswith(f" {verdict.upper().replace('-', ' ')}\n")
    assert "failed at move: refused: not a name" in block
    assert "  next " in block
    failed, ended = list(controller.record.events(after=1))[-3:-1]
    assert failed.details["evidence"] == ended.details["evidence"]
    saved = Evidence.model_validate(failed.details["evidence"][0])
    assert json.loads(controller.record.evidence(saved)) == {"health": "down"}
    assert list((controller.home / ".ansible" / "tmp").iterdir()) == []
    assert controller.record.verify().ok
    (controller.home / "record" / saved.key).write_text("{}")
    assert {problem.seq for problem in controller.record.verify().problems} == {failed.seq, ended.seq}


def test_what_the_playbook_does_not_end_is_ended_by_its_hosts(controller: Controller, tmp_path: Path) -> None:
    playbook = tmp_path / "broken.yml"
    playbook.write_text(
        "- hosts: localhost\n"
        "  connection: local\n"
        "  tasks:\n"
        "    - operation: {state: begin, operation: trial}\n"
        "- hosts: primary\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - ansible.builtin.command: 'true'\n"
        "      when: reach | default(true)\n"
        "    - ansible.builtin.fail: {msg: the disk is full}\n"
    )
    lost = controller.play(playbook)
    assert lost.returncode == 12, lost.stdout
    assert "lost primary" in lost.stdout.rpartition("trial: UNCERTAIN")[2]
    failed = controller.play(playbook, "-e", '{"reach": false}')
    assert failed.returncode == 2, failed.stdout
    assert "primary: the disk is full" in failed.stdout.rpartition("trial: FAILED")[2]
    ends = [event.result for event in controller.record.events() if event.action == "trial.end"]
    assert ends == [Result.UNCERTAIN, Result.FAILED]
    assert controller.record.state().lock is None


def test_the_site_play_takes_the_lease_whatever_its_limit(controller: Controller) -> None:
    done = controller.play(REPOSITORY / "ansible/playbooks/site.yml", "--limit", "primary")
    assert done.returncode == 2, done.stdout
    assert "no value in" in done.stdout.rpartition("site: FAILED")[2], "it came to what this controller lacks"
    assert actions(controller) == [
        ("lease.acquire", "started"),
        ("site.begin", "started"),
        ("site.end", "failed"),
        ("lease.release", "failed"),
    ]


def test_check_mode_takes_nothing_and_changes_nothing(controller: Controller) -> None:
    before = hashed(controller.home / "record")
    done = controller.play(TRIAL, "-e", "region=fra1", "--check")
    assert done.returncode == 0, done.stdout
    assert "trial: OK (check mode)" in done.stdout
    assert "would do  moved to fra1" in done.stdout
    assert hashed(controller.home / "record") == before
    assert controller.heartbeats() == []


def test_of_two_operations_one_is_refused_and_one_waits(controller: Controller) -> None:
    gate = controller.home / "gate"
    with controller.playing(TRIAL, "-e", "region=fra1", "-e", f"gate={gate}") as first:
        eventually(lambda: holds(controller), "the first one is in the middle")
        refused = controller.play(TRIAL, "-e", "region=nyc1", environment={"ICUPA_OPERATOR": "bob"})
        assert refused.returncode == 2, refused.stdout
        assert "trial: REFUSED" in refused.stdout
        assert "ada on" in refused.stdout
        assert "nothing was changed" in refused.stdout
        looked = controller.play(TRIAL, "-e", "region=nyc1", "--check")
        assert looked.returncode == 0
        assert "is at work: trial" in looked.stdout
        with controller.playing(TRIAL, "-e", "region=nyc1", "-e", "wait=60") as second:
            assert second.stdout
            said = ""
            while "waiting: ada on" not in said:
                line = second.stdout.readline()
                assert line, said
                said += line
            gate.touch()
            output, _ = second.communicate()
        assert second.returncode == 0, said + output
        output, _ = first.communicate()
        assert first.returncode == 0, output
    assert controller.record.state().active_region == "nyc1"
    tokens = [event.token for event in controller.record.events() if event.action == "trial.end"]
    assert tokens == [1, 2]


@pytest.mark.parametrize("wait", ["-1", "soon", "inf"])
def test_a_wait_that_is_none_is_refused(controller: Controller, wait: str) -> None:
    done = controller.play(TRIAL, "-e", "region=fra1", "-e", f"wait={wait}")
    assert done.returncode == 2, done.stdout
    assert "wait must be a number of seconds" in done.stdout
    assert controller.record.last_event() == 1


def test_a_killed_run_is_taken_up_by_the_same_command_and_by_nobody_else(controller: Controller) -> None:
    gate = controller.home / "gate"
    with controller.playing(TRIAL, "-e", "region=fra1", "-e", f"gate={gate}") as first:
        eventually(lambda: holds(controller), "it is in the middle")
        (heartbeat,) = controller.heartbeats()
        assert [word for word in words(heartbeat, "cmdline") if word][1:] == [
            "-m",
            "infra.procedures.heartbeat",
        ]
        kill(first)
    eventually(lambda: controller.heartbeats() == [], "the heartbeat does not outlive its controller")
    lock = controller.record.state().lock
    assert lock is not None
    assert is_over(Log(controller.record.store), lock)
    gate.touch()
    other = controller.play(TRIAL, "-e", "region=nyc1", environment={"ICUPA_OPERATOR": "bob"})
    assert other.returncode == 2, other.stdout
    assert "take it by naming its owner (take_from='ada')" in " ".join(other.stdout.split())
    same = controller.play(TRIAL, "-e", "region=fra1")
    assert same.returncode == 0, same.stdout
    assert ("lease.resume", "started") in actions(controller)
    assert controller.record.state().active_region == "fra1"


def test_an_interrupted_run_says_how_to_go_on(controller: Controller) -> None:
    gate = controller.home / "gate"
    with controller.playing(TRIAL, "-e", "region=fra1", "-e", f"gate={gate}") as first:
        eventually(lambda: holds(controller), "it is in the middle")
        os.killpg(first.pid, signal.SIGINT)
        output, _ = first.communicate()
    assert first.returncode == 99, output
    block = output.rpartition("trial: UNCERTAIN")[2]
    assert "did       moved to in-between" in block
    assert "run the same command again" in block
    gate.touch()
    assert controller.play(TRIAL, "-e", "region=fra1").returncode == 0


@pytest.mark.parametrize("option", ["take_from=ada", "take_over=true"])
def test_the_lease_of_a_killed_run_is_taken_by_who_may(controller: Controller, option: str) -> None:
    gate = controller.home / "gate"
    with controller.playing(TRIAL, "-e", "region=fra1", "-e", f"gate={gate}") as first:
        eventually(lambda: holds(controller), "it is in the middle")
        kill(first)
    with pytest.raises(LeaseOverError):
        controller.record.acquire("trial", who="bob", wait=60)
    done = controller.play(TRIAL, "-e", "region=nyc1", "-e", option, environment={"ICUPA_OPERATOR": "bob"})
    assert done.returncode == 0, done.stdout
    taken = next(event for event in controller.record.events() if event.action == "lease.take")
    assert taken.who == "bob"
    assert taken.details["from"]["who"] == "ada"


def test_who_lost_the_lease_changes_nothing_any_more(controller: Controller) -> None:
    gate = controller.home / "gate"
    with controller.playing(TRIAL, "-e", "region=fra1", "-e", f"gate={gate}", "-e", "verdict=ok") as first:
        eventually(lambda: holds(controller), "it is in the middle")
        other = controller.record.acquire("switch", who="carol", preempt=True)
        gate.touch()
        output, _ = first.communicate()
    assert first.returncode == 12, output
    assert "carol took it for switch" in " ".join(output.split())
    assert controller.record.state().active_region == "in-between"
    other.check()
    end = next(event for event in controller.record.events() if event.action == "trial.end")
    assert end.result is Result.UNCERTAIN
    assert end.token is None
    other.release()
    assert controller.play(TRIAL, "-e", "region=fra1").returncode == 0
    directory = controller.home / ".local/state/icupa/test/operations"
    eventually(lambda: list(directory.iterdir()) == [], "nothing is left of either heartbeat")


def test_a_heartbeat_that_was_killed_is_started_again(controller: Controller) -> None:
    gate = controller.home / "gate"
    with controller.playing(TRIAL, "-e", "region=fra1", "-e", f"gate={gate}") as first:
        eventually(lambda: holds(controller), "it is in the middle")
        (heartbeat,) = controller.heartbeats()
        os.kill(heartbeat, signal.SIGKILL)
        gate.touch()
        output, _ = first.communicate()
    assert first.returncode == 0, output
    assert "the heartbeat of the lease had ended" in output


def test_a_record_in_an_object_store_serves_forked_tasks(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        config = gateway.config("test")
        given = {name: value for name, value in config.model_dump(mode="json").items() if value}
        controller = Controller(tmp_path, outputs(given), {**PLUGINS, **gateway.environment})
        with pytest.MonkeyPatch.context() as patch:
            for name, value in gateway.environment.items():
                patch.setenv(name, value)
            controller.bootstrap()
            done = controller.play(TRIAL, "-e", "region=fra1")
            assert done.returncode == 0, done.stdout
            assert controller.record.state().active_region == "fra1"


def test_what_changed_while_it_waited_is_read_again(controller: Controller, tmp_path: Path) -> None:
    playbook = tmp_path / "fresh.yml"
    playbook.write_text(
        "- hosts: localhost\n"
        "  connection: local\n"
        "  tasks:\n"
        "    - operation: {state: begin, operation: trial, wait: 60}\n"
        "    - ansible.builtin.meta: refresh_inventory\n"
        "    - trial_step: {name: fra1}\n"
        "- hosts: primary\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - ansible.builtin.debug: {msg: 'serves {{ icupa_runtime.active_slot }}'}\n"
    )
    lease = controller.record.acquire("deploy", who="bob")
    with controller.playing(playbook) as waiting:
        assert waiting.stdout
        said = ""
        while "waiting: bob on" not in said:
            line = waiting.stdout.readline()
            assert line, said
            said += line
        lease.update("x", lambda state: state.with_slot("primary", Slot.GREEN, f"sha256:{'2' * 64}"))
        lease.update("x", lambda state: state.with_active_slot("primary", Slot.GREEN))
        lease.release()
        output, _ = waiting.communicate()
        assert waiting.returncode == 0, said + output
        assert "serves green" in output
