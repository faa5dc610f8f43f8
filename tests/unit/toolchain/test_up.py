"""The chain of `make up` and `make down`: order, what stops it, what it repairs, what it leaves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import NotFound

from infra import down, paths, up
from infra.toolchain import builder, state
from infra.toolchain.errors import ToolchainError
from infra.toolchain.state import Pending


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Commands that were run; `fail` names a word whose command fails."""
    facts = SimpleNamespace(ran=[], logins=set(), fail=None, settled=[], missing=[], exists=True)

    def run(
        command: Sequence[str], env: Mapping[str, str] | None = None, **rest: object
    ) -> subprocess.CompletedProcess[str]:
        facts.ran.append(" ".join(command))
        if env is not None:
            facts.logins.add(env["DOCKER_CONFIG"])
        code = 1 if facts.fail is not None and facts.fail in command else 0
        return subprocess.CompletedProcess(
            command, code, stdout='{"agents": "https://a.example"}', stderr="no"
        )

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(state, "exists", lambda stack: facts.exists)
    monkeypatch.setattr(state, "ensure_stack", lambda stack: None)
    monkeypatch.setattr(state, "clear_dead_locks", lambda stack: [])
    monkeypatch.setattr(state, "end_orphans", list)
    monkeypatch.setattr(state, "settle", lambda stack: facts.settled)
    monkeypatch.setattr(state, "missing", lambda stack: facts.missing)
    return facts


def which(ran: list[str]) -> list[str]:
    marks = ("secretstore", "pulumi up", "site.yml", "smoke.yml", "output urls", "destroy", "stack rm")
    return [mark for command in ran for mark in marks if mark in command]


def test_up_runs_its_steps_in_order_and_prints_urls(
    steps: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert up.main() == 0
    assert which(steps.ran) == ["secretstore", "pulumi up", "site.yml", "smoke.yml", "output urls"]
    assert not any("--refresh" in command for command in steps.ran)
    assert "https://a.example" in capsys.readouterr().out


@pytest.mark.parametrize("chain", [up.main, down.main])
def test_logins_are_those_of_local_whatever_the_shell_names(
    steps: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chain: Callable[[], int]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ICUPA_STACK", "production")
    monkeypatch.setattr(builder, "remove", lambda: None)
    monkeypatch.setattr(down, "sweep", lambda: None)
    assert chain() == 0
    assert steps.logins == {str(paths.docker_config("local"))}


@pytest.mark.parametrize(
    ("fail", "last"),
    [("prepare", "secretstore"), ("up", "pulumi up"), ("ansible/playbooks/site.yml", "site.yml")],
)
def test_up_stops_at_the_step_that_fails(
    steps: SimpleNamespace, fail: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.fail = fail
    assert up.main() == 1
    assert which(steps.ran)[-1] == last
    assert "ended with 1" in capsys.readouterr().err


def test_up_refreshes_after_it_settled_something(steps: SimpleNamespace) -> None:
    steps.settled = [Pending("deleting", "urn:x", "docker:index/network:Network", {})]
    assert up.main() == 0
    assert [command for command in steps.ran if "pulumi up" in command and "--refresh" in command]


def test_up_refreshes_where_the_engine_has_lost_something(
    steps: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.missing = ["icupa-local-login"]
    assert up.main() == 0
    assert [command for command in steps.ran if "pulumi up" in command and "--refresh" in command]
    assert "icupa-local-login" in capsys.readouterr().err


def test_up_touches_nothing_while_another_run_holds_the_stack(
    steps: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(stack: str) -> list[object]:
        raise ToolchainError("locked by ops")

    monkeypatch.setattr(state, "clear_dead_locks", held)
    assert up.main() == 1
    assert which(steps.ran) == ["secretstore"]


class Thing:
    def __init__(self, room: list[Thing], name: str, stubborn: bool = False) -> None:
        self.room, self.name, self.stubborn = room, name, stubborn

    def remove(self, **options: object) -> None:
        if not self.stubborn:
            self.room.remove(self)


class Room:
    def __init__(self, *names: str, stubborn: bool = False) -> None:
        self.things: list[Thing] = []
        self.things += [Thing(self.things, name, stubborn) for name in names]

    @property
    def names(self) -> list[str]:
        return [thing.name for thing in self.things]

    def list(self, filters: dict[str, str], all: bool = False) -> list[Thing]:  # noqa: A002 - the SDK's name
        return [thing for thing in self.things if filters["name"] in thing.name]

    def get(self, name: str) -> Thing:
        for thing in self.things:
            if thing.name == name:
                return thing
        raise NotFound(name)


OTHERS = ["postgres", "old-icupa-local-x", "icupa-localstack"]
"""Containers that are none of the project's."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    facts = SimpleNamespace(
        containers=Room("icupa-local-acme", builder.CONTAINER, *OTHERS),
        networks=Room("icupa-local-internet", "bridge", "icupa-localstack_default"),
        volumes=Room("icupa-local-primary-docker", "data", "icupa-localstack"),
    )
    monkeypatch.setattr("docker.from_env", lambda: facts)
    return facts


def test_down_leaves_nothing_of_the_project_and_everything_else(
    steps: SimpleNamespace, engine: SimpleNamespace
) -> None:
    home: Path = paths.private(paths.stack_home("local") / "record")
    builder.places().cache.mkdir(parents=True)
    assert down.main() == 0
    assert which(steps.ran) == ["destroy", "stack rm"]
    assert engine.containers.names == OTHERS
    assert engine.networks.names == ["bridge", "icupa-localstack_default"]
    assert engine.volumes.names == ["data", "icupa-localstack"]
    assert not home.exists()
    assert builder.places().cache.is_dir()


def test_down_goes_on_by_name_when_destroy_fails(steps: SimpleNamespace, engine: SimpleNamespace) -> None:
    steps.fail = "destroy"
    assert down.main() == 0
    assert engine.containers.names == OTHERS


def test_down_without_a_stack_only_sweeps(steps: SimpleNamespace, engine: SimpleNamespace) -> None:
    steps.exists = False
    assert down.main() == 0
    assert steps.ran == []
    assert engine.networks.names == ["bridge", "icupa-localstack_default"]


def test_down_fails_when_something_stays(
    steps: SimpleNamespace, engine: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.volumes = Room("icupa-local-primary-docker", stubborn=True)
    home = paths.private(paths.stack_home("local"))
    assert down.main() == 1
    assert "still there: icupa-local-primary-docker" in capsys.readouterr().err
    assert home.exists()


def test_down_fails_when_secrets_stay(
    steps: SimpleNamespace,
    engine: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = paths.private(paths.stack_home("local"))

    def others(path: object, *_: object, **rest: object) -> None:
        raise PermissionError(13, "Permission denied", f"{path}/age.key")

    monkeypatch.setattr("os.rmdir", others)
    assert down.main() == 1
    told = capsys.readouterr()
    assert "Permission denied" in told.err
    assert "is gone too" not in told.out
    assert home.exists()
