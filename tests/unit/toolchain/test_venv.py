"""The virtual environment: keyed by its pins, whole or made again; the commands that run before it exists."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from infra import paths
from infra.toolchain import environment, venv
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import exclusive


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    at = tmp_path / "build" / "venv"
    monkeypatch.setattr(paths, "virtual_environment", lambda: at)
    return at


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, in place of making a real one: creating gives an interpreter, installing a package."""
    steps: list[str] = []

    def run(command: list[str], what: str, began: float) -> None:
        steps.append(what)
        (venv.home() / "bin").mkdir(parents=True, exist_ok=True)
        (venv.home() / "bin" / "python").touch()

    monkeypatch.setattr(venv, "_run", run)
    return steps


def test_key_follows_both_files() -> None:
    keys = {venv.key(b"a", b"b"), venv.key(b"ab", b""), venv.key(b"a", b"c"), venv.key(b"x", b"b")}
    assert len(keys) == 4
    assert venv.key(b"a", b"b") in keys


def pinned(file: Path) -> dict[str, str]:
    lines = (line.split("#", 1)[0].strip() for line in file.read_text().splitlines())
    pairs = (re.split(r"==", line) for line in lines if line)
    return {canonicalize_name(name.split("[", 1)[0]): version for name, version in pairs}


def test_every_requirement_is_pinned_and_locked_at_the_same_version() -> None:
    direct, locked = pinned(venv.REQUIREMENTS), pinned(venv.CONSTRAINTS)
    assert len(direct) > 20
    assert {name: version for name, version in direct.items() if locked.get(name) != version} == {}


def test_it_is_made_once_and_linked(link: Path, installed: list[str]) -> None:
    assert venv.ensure() == venv.home()
    assert venv.ensure() == venv.home()
    assert installed == ["create", "install"]
    assert link.readlink() == venv.home()


def test_one_that_was_killed_halfway_is_made_again(link: Path, installed: list[str]) -> None:
    half = venv.home() / "lib" / "half"
    half.parent.mkdir(parents=True)
    half.touch()
    (venv.home() / "bin").mkdir()
    (venv.home() / "bin" / "python").touch()
    venv.ensure()
    assert installed == ["create", "install"]
    assert not half.exists()


def test_one_that_failed_is_not_taken(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], what: str, began: float) -> None:
        raise ToolchainError("no network")

    monkeypatch.setattr(venv, "_run", run)
    for _ in range(2):
        with pytest.raises(ToolchainError, match="no network"):
            venv.ensure()
    assert not link.is_symlink()


def test_without_ensurepip_the_package_is_named(monkeypatch: pytest.MonkeyPatch, link: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ToolchainError, match=rf"install python3\.{sys.version_info.minor}-venv"):
        venv.ensure()


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    at = tmp_path / "room" / "link"
    venv.link(at, tmp_path / "one")
    venv.link(at, tmp_path / "two")
    assert at.readlink() == tmp_path / "two"
    assert list(at.parent.iterdir()) == [at]


def test_a_lock_is_held_by_one_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "room" / "thing.lock"
    inside = threading.Event()
    order: list[str] = []

    def second() -> None:
        inside.wait(5)
        with exclusive(file):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with exclusive(file):
        inside.set()
        deadline = time.monotonic() + 5
        said = ""
        while "waiting for process" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert "to finish thing" in said


def test_environment_puts_the_projects_directories_first_and_once() -> None:
    once = environment.variables({"PATH": "/usr/bin:/bin"})
    again = environment.variables(once)
    own = f"{paths.virtual_environment() / 'bin'}:{paths.tools_bin()}"
    assert once["PATH"] == again["PATH"] == f"{own}:/usr/bin:/bin"
    assert once["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert environment.variables({"PULUMI_CONFIG_PASSPHRASE": "x"})["PULUMI_CONFIG_PASSPHRASE"] == "x"
    assert once["BUILDX_CONFIG"].startswith(once["DOCKER_CONFIG"])


@pytest.mark.parametrize(
    ("inherited", "stack", "expected"),
    [
        ({}, None, "local"),
        ({"ICUPA_STACK": ""}, None, "local"),
        ({"ICUPA_STACK": "production"}, None, "production"),
        ({"ICUPA_STACK": "production"}, "local", "local"),
    ],
)
def test_logins_are_those_of_the_stack(inherited: dict[str, str], stack: str | None, expected: str) -> None:
    found = environment.variables(inherited, stack)
    assert found["DOCKER_CONFIG"] == str(paths.docker_config(expected))
    assert found["BUILDX_CONFIG"].startswith(found["DOCKER_CONFIG"])


def test_env_sh_sets_them_in_a_shell() -> None:
    script = '. ./env.sh && printf "%s\\n" "$PULUMI_HOME" "$ANSIBLE_CONFIG"'
    done = subprocess.run(
        ["sh", "-euc", script], cwd=paths.REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        str(paths.pulumi_home()),
        str(paths.REPOSITORY / "ansible" / "ansible.cfg"),
    ]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # -S: no installed packages, as before the virtual environment exists.
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(paths.REPOSITORY)!r});"
            f"from infra.toolchain.__main__ import main; sys.exit(main({list(words)!r}))",
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_before_the_environment_exists_need_the_standard_library_only() -> None:
    done = command("env")
    assert done.returncode == 0, done.stderr
    assert "export PULUMI_HOME=" in done.stdout


def test_an_unknown_group_is_refused_by_the_names_there_are() -> None:
    done = command("ensure", "everything")
    assert (done.returncode, done.stdout) == (1, "")
    assert "unknown group everything; accepted: preview, up, unit, lint" in done.stderr


def test_run_gives_the_exit_code_of_what_it_becomes() -> None:
    assert command("run", "--", "sh", "-c", "exit 7").returncode == 7
    assert command("run", "--", "sh", "-c", 'test "$PULUMI_SKIP_UPDATE_CHECK" = true').returncode == 0
    assert "can't run no-such-command" in command("run", "--", "no-such-command").stderr
