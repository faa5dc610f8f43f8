"""Nothing runs on a machine that nobody gave away, and a second play that changes something fails."""

from __future__ import annotations

import subprocess

import pytest
from pytest import CaptureFixture, MonkeyPatch

from tests import this_machine
from tests.this_machine import ALLOW, RefusedError

RECAP = "PLAY RECAP ***\nthis-machine : ok=20   changed={}    unreachable=0    failed=0    skipped=4\n"


@pytest.fixture
def ran(monkeypatch: MonkeyPatch) -> list[list[str]]:
    """Commands that were run; every one of them says that it changed nothing."""
    commands: list[list[str]] = []

    def run(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(words)
        return subprocess.CompletedProcess(words, 0, stdout=RECAP.format(0))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv(ALLOW, "yes")
    monkeypatch.setenv("SUDO_USER", "ada")
    return commands


@pytest.mark.parametrize("said", [None, "", "no", "YES", "1"])
def test_refused_unless_allowed(
    ran: list[list[str]], monkeypatch: MonkeyPatch, capsys: CaptureFixture[str], said: str | None
) -> None:
    if said is None:
        monkeypatch.delenv(ALLOW)
    else:
        monkeypatch.setenv(ALLOW, said)
    assert this_machine.main() == 1
    assert ran == []
    assert f"set {ALLOW}=yes" in capsys.readouterr().err


def test_ssh_lets_in_who_ran_it_and_never_root() -> None:
    assert this_machine.operator({ALLOW: "yes"}, "runner") == "runner"
    assert this_machine.operator({ALLOW: "yes", "SUDO_USER": "ada"}, "root") == "ada"
    with pytest.raises(RefusedError, match="never root"):
        this_machine.operator({ALLOW: "yes"}, "root")


def test_it_runs_twice(ran: list[list[str]]) -> None:
    assert this_machine.main() == 0
    assert ran == [this_machine.command("ada")] * 2


def test_a_change_by_the_second_play_fails(
    ran: list[list[str]], monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]
) -> None:
    done = subprocess.CompletedProcess([], 0, stdout=RECAP.format(3))
    monkeypatch.setattr(subprocess, "run", lambda words, **options: done)
    assert this_machine.main() == 1
    assert "changed 3 things" in capsys.readouterr().err


def test_a_failed_play_is_not_repeated(ran: list[list[str]], monkeypatch: MonkeyPatch) -> None:
    def run(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        return subprocess.CompletedProcess(words, 2, stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    assert this_machine.main() == 1
    assert len(ran) == 1
