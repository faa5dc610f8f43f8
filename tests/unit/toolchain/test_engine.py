"""The engine: used where it runs, never started twice; the builder's registration."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra import paths
from infra.toolchain import builder, engine
from infra.toolchain.errors import ToolchainError
from infra.toolchain.progress import Progress


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine whose engine answers after `answers_after` questions, or never."""
    facts = SimpleNamespace(asked=0, answers_after=None, started=0, installed=[], running=False)

    def version() -> str | None:
        facts.asked += 1
        after = facts.answers_after
        return "20.10.24" if after is not None and facts.asked > after else None

    def detached(log: Path) -> SimpleNamespace:
        facts.started += 1
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("failed to mount overlay\n")
        return SimpleNamespace(poll=lambda: None if facts.answers_after is not None else 1)

    monkeypatch.setattr(engine, "version", version)
    monkeypatch.setattr(engine, "_detached", detached)
    monkeypatch.setattr(engine, "running", lambda: facts.running)
    monkeypatch.setattr(engine, "_SYSTEMD", tmp_path / "no-systemd")
    monkeypatch.setattr(
        "infra.toolchain.debian.install", lambda commands, progress: facts.installed.append(commands)
    )
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return facts


def test_a_running_engine_is_used(machine: SimpleNamespace) -> None:
    machine.answers_after = 0
    assert engine.ensure(Progress()) == "20.10.24"
    assert (machine.started, machine.installed) == (0, [])


def test_without_systemd_it_is_installed_started_and_awaited(machine: SimpleNamespace) -> None:
    machine.answers_after = 4
    assert engine.ensure(Progress()) == "20.10.24"
    assert (machine.started, machine.installed) == (1, [engine.COMMANDS])


def test_one_that_only_just_starts_is_not_doubled(machine: SimpleNamespace) -> None:
    machine.answers_after, machine.running = 4, True
    engine.ensure(Progress())
    assert machine.started == 0


def test_one_that_dies_tells_the_end_of_its_log(machine: SimpleNamespace) -> None:
    with pytest.raises(ToolchainError, match="failed to mount overlay"):
        engine.ensure(Progress())


def test_without_root_it_says_what_to_do(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ToolchainError, match="run as root"):
        engine.ensure(Progress())
    assert (machine.started, machine.installed) == (0, [])


def test_a_chosen_engine_that_does_not_answer_is_named(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://far.example:2376")
    with pytest.raises(ToolchainError, match=r"tcp://far\.example:2376"):
        engine.ensure(Progress())
    assert machine.started == 0


def process(proc: Path, pid: str, name: str, namespace: str) -> None:
    (proc / pid / "ns").mkdir(parents=True)
    (proc / pid / "comm").write_text(f"{name}\n")
    (proc / pid / "ns" / "pid").symlink_to(namespace)


def test_only_a_daemon_of_this_namespace_counts(tmp_path: Path) -> None:
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "pid").symlink_to("pid:[1]")
    process(tmp_path, "5", "bash", "pid:[1]")
    process(tmp_path, "6", "dockerd", "pid:[2]")
    assert not engine.running(tmp_path)
    process(tmp_path, "7", "dockerd", "pid:[1]")
    assert engine.running(tmp_path)


def test_the_builder_is_registered_in_the_projects_own_configuration() -> None:
    where = builder.places()
    (where.buildx / "instances").mkdir(parents=True)
    builder.register(where)
    (file,) = (where.buildx / "instances").iterdir()
    written = json.loads(file.read_text())
    assert (file.name, written["Driver"]) == ("icupa", "remote")
    assert written["Nodes"][0]["Endpoint"] == f"unix://{where.socket}"
    inode = file.stat().st_ino
    builder.register(where)
    assert file.stat().st_ino == inode


def test_no_daemon_no_answer(tmp_path: Path) -> None:
    assert not builder._answers(tmp_path / "no.sock", 0.2)


def test_directories_of_state_are_private() -> None:
    made = paths.private(paths.stack_home("local") / "files" / "world")
    for directory in (made, *made.parents):
        if directory.is_relative_to(paths.state_home()):
            assert directory.stat().st_mode & 0o777 == 0o700, directory
    assert paths.private(made) == made
