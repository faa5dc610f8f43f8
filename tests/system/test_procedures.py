"""What all procedures have in common, on the running stack (issue 4, acceptance 5 and 7)."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra import local, paths
from infra.outputs.read import read_outputs
from infra.procedures.heartbeat import status_file
from infra.record import Record, Result, open_record
from infra.record.lease import is_over
from infra.record.log import Log
from tests.controller import kill
from tests.kills import running
from tests.releases import good, releases
from tests.running import SITE, STACK, command, play, serves, succeeds
from tests.system.killing import Step, kill_after, listed, spread, trace
from tests.waiting import eventually

pytestmark = pytest.mark.system

HOLD = Path(__file__).resolve().parent / "hold.yml"
SITE_STEPS_AT_LEAST = 40
SITE_KILLS = 3


def record() -> Record:
    """The stack's record."""
    return open_record(read_outputs(STACK).record)


def record_directory() -> Path:
    """Where the record of `local` lies."""
    return paths.stack_home(STACK) / "record"


def hashed(directory: Path) -> str:
    """One hash of all files of a directory."""
    found = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        found.update(f"{file}\0".encode() + file.read_bytes())
    return found.hexdigest()


def holding(gate: Path) -> list[str]:
    """An operation that holds the lease until a file is there."""
    return ["ansible-playbook", str(HOLD), "-e", f"stack={STACK}", "-e", f"gate={gate}", "-e", "why=drill"]


def as_operator(name: str, arguments: Sequence[str]) -> list[str]:
    """A command by another operator."""
    return ["env", f"ICUPA_OPERATOR={name}", *arguments]


def deploy(digest: str, *options: str) -> list[str]:
    """Command of a deploy."""
    playbook = "ansible/playbooks/deploy.yml"
    return ["ansible-playbook", playbook, "-e", f"stack={STACK}", "-e", f"release={digest}", *options]


@contextmanager
def held(gate: Path) -> Iterator[subprocess.Popen[str]]:
    """Another operation, ada's, at work in the block; it ends well where the block lets it."""
    with running(as_operator("ada", holding(gate))) as process:
        eventually(lambda: holder() == "ada", "ada has the lease", 60)
        yield process


def holder() -> str | None:
    """Who holds the lease."""
    lock = record().state().lock
    return None if lock is None else lock.holder.who


def test_of_two_operations_one_is_refused_with_the_holders_name_or_waits(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with held(gate) as first:
        before = hashed(record_directory() / "events")
        refused = command(SITE)
        assert refused.returncode == 2, refused.stdout
        assert "site: REFUSED" in refused.stdout
        said = " ".join(refused.stdout.split())
        assert "ada on" in said
        assert "holds the lease for hold" in said
        assert ": drill; it is renewed" in said
        assert hashed(record_directory() / "events") == before, "a refused operation writes nothing"
        with running([*SITE, "-e", "wait=120"]) as second:
            assert second.stdout
            shown = ""
            while "waiting: ada on" not in shown:
                line = second.stdout.readline()
                assert line, shown
                shown += line
            gate.touch()
            output, _ = second.communicate()
        assert second.returncode == 0, shown + output
        output, _ = first.communicate()
        assert first.returncode == 0, output
    ended = [event for event in record().events() if event.action in {"hold.end", "site.end"}][-2:]
    assert [(event.action, event.result) for event in ended] == [
        ("hold.end", Result.OK),
        ("site.end", Result.OK),
    ]


@pytest.fixture
def two() -> Iterator[tuple[str, str]]:
    """Digests of two good releases that do not serve; what served before serves again afterwards."""
    before = record().state().release.digest
    with releases() as made:
        yield made.make(good("together one")), made.make(good("together two"))
    succeeds(deploy(before))


def test_of_two_deploys_started_together_one_is_refused_with_the_others_name(two: tuple[str, str]) -> None:
    with (
        running(as_operator("ada", deploy(two[0]))) as one,
        running(as_operator("bob", deploy(two[1]))) as other,
    ):
        outputs = [process.communicate()[0] for process in (one, other)]
    codes = [one.returncode, other.returncode]
    assert sorted(codes) == [0, 2], outputs
    refused, winner = outputs[codes.index(2)], ("ada", "bob")[codes.index(0)]
    assert "deploy: REFUSED" in refused
    assert f"{winner} on" in refused
    state = record().state()
    assert state.release.digest == two[codes.index(0)]
    assert {digest for host in state.hosts.values() for digest in host.digests} == {state.release.digest}
    for place in local.MACHINES:
        serves(place.region)


def test_of_two_deploys_started_together_one_waits_for_the_other(two: tuple[str, str]) -> None:
    commands = [deploy(digest, "-e", "wait=300") for digest in two]
    with running(commands[0]) as one, running(commands[1]) as other:
        outputs = [process.communicate()[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], outputs
    assert sum("waiting: " in output for output in outputs) == 1
    *_, first, second = [event for event in record().events() if event.action == "deploy.end"]
    assert first.result is second.result is Result.OK
    assert {first.digest, second.digest} == set(two)
    assert (first.token or 0) < (second.token or 0)
    state = record().state()
    assert state.release.digest == second.digest
    assert {digest for host in state.hosts.values() for digest in host.digests} == {second.digest}
    for place in local.MACHINES:
        serves(place.region)


def test_the_lease_of_a_dead_holder_is_taken_over_by_the_site_play(tmp_path: Path) -> None:
    with held(tmp_path / "gate") as process:
        kill(process)
    lock = record().state().lock
    assert lock is not None
    assert is_over(Log(record().store), lock)
    other = command(holding(tmp_path / "another"))
    assert other.returncode == 2, other.stdout
    assert "take it by naming its owner (take_from='ada')" in " ".join(other.stdout.split())
    assert play().hosts == {place.name for place in local.MACHINES}
    taken = [event for event in record().events() if event.action == "lease.take"][-1]
    assert taken.details["from"]["who"] == "ada"
    assert record().state().lock is None


def test_a_stopped_holder_keeps_its_lease_and_a_dead_ones_heartbeat_ends(tmp_path: Path) -> None:
    with held(tmp_path / "gate") as process:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert command(SITE).returncode == 2
        finally:
            os.kill(process.pid, signal.SIGCONT)
        status = status_file(STACK, record().state().fencing_token)
        assert status.exists()
        kill(process)
    eventually(lambda: not status.exists(), "the heartbeat ends with its controller")
    play()


def test_a_tampered_record_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "record"
    shutil.copytree(record_directory(), copy)
    verify = [sys.executable, "-m", "infra.record", "--url", copy.as_uri(), "verify"]
    assert command(verify).returncode == 0
    last = max((copy / "events").iterdir())
    last.write_bytes(last.read_bytes().replace(b'"who":"', b'"who":"not-', 1))
    found = command(verify)
    assert found.returncode == 1
    assert f"event {int(last.stem)} was changed" in found.stderr


def test_check_mode_of_the_site_play_takes_no_lease_and_writes_nothing() -> None:
    before = hashed(record_directory())
    done = command([*SITE, "--check"])
    assert done.returncode == 0, done.stdout
    assert "site: OK (check mode)" in done.stdout
    assert hashed(record_directory()) == before


@pytest.fixture(scope="module")
def site_steps() -> list[Step]:
    steps = trace(SITE)
    assert len(steps) >= SITE_STEPS_AT_LEAST
    names = {step.name for step in steps}
    missing = [name for name in listed(SITE) if name not in names]
    assert missing == []
    return spread(steps, SITE_KILLS)


@pytest.mark.parametrize("number", range(SITE_KILLS))
def test_a_site_play_killed_after_a_step_is_taken_up_again(site_steps: list[Step], number: int) -> None:
    kill_after(site_steps[number], SITE)
    played = play()
    assert played.hosts == {place.name for place in local.MACHINES}
    assert record().state().lock is None
    assert play().changes == []
    for place in local.MACHINES:
        serves(place.region)
