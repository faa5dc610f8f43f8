"""A killed run's lock goes only when its holder is dead; pending operations are settled."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.errors import NotFound

from infra import paths
from infra.providers.plugins import executable_name, write_executable
from infra.toolchain import state
from infra.toolchain.errors import ToolchainError

STACK = "local"


def lock(room: Path, pid: int, hostname: str | None = None) -> Path:
    home = room / "locks" / "organization" / state.project_name() / STACK
    home.mkdir(parents=True, exist_ok=True)
    file = home / f"{pid}.json"
    facts = {"pid": pid, "username": "ops", "hostname": hostname or socket.gethostname(), "timestamp": "t"}
    file.write_text(json.dumps(facts))
    return file


def process(proc: Path, pid: int, name: str, status: str = "S", parent: int = 1) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {status} {parent} 0 0")


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


def test_a_dead_holders_lock_is_cleared(tmp_path: Path) -> None:
    file = lock(tmp_path, dead_pid())
    assert [cleared.file for cleared in state.clear_dead_locks(STACK, tmp_path)] == [file]
    assert not file.exists()


def test_a_living_holders_lock_stays(tmp_path: Path) -> None:
    file = lock(tmp_path, 77)
    process(tmp_path / "proc", 77, "pulumi")
    with pytest.raises(ToolchainError, match=r"process 77\), which is running"):
        state.clear_dead_locks(STACK, tmp_path, tmp_path / "proc")
    assert file.exists()


@pytest.mark.parametrize(("name", "status"), [("bash", "S"), ("pulumi", "Z")])
def test_a_reused_id_or_a_zombie_holds_nothing(tmp_path: Path, name: str, status: str) -> None:
    file = lock(tmp_path, 77)
    process(tmp_path / "proc", 77, name, status)
    state.clear_dead_locks(STACK, tmp_path, tmp_path / "proc")
    assert not file.exists()


def test_a_lock_stays_whose_holder_proc_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lock(tmp_path, 77)

    def another_users(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", another_users)
    with pytest.raises(ToolchainError, match=r"process 77\), which is running"):
        state.clear_dead_locks(STACK, tmp_path, tmp_path / "proc")
    assert file.exists()


def test_another_machines_lock_stays(tmp_path: Path) -> None:
    file = lock(tmp_path, dead_pid(), "elsewhere")
    with pytest.raises(ToolchainError, match="ops@elsewhere"):
        state.clear_dead_locks(STACK, tmp_path)
    assert file.exists()


def test_locks_of_other_stacks_are_left(tmp_path: Path) -> None:
    file = lock(tmp_path, dead_pid())
    assert state.clear_dead_locks("production", tmp_path) == []
    assert file.exists()


def test_orphans_are_plugins_of_this_home_whose_engine_is_gone(tmp_path: Path) -> None:
    own = f"A=b\0PULUMI_HOME={paths.pulumi_home()}\0".encode()
    for pid, parent, command, environ in (
        (10, 1, b"/x/pulumi-resource-docker\0127.0.0.1:1", own),
        (11, 9, b"/x/pulumi-resource-docker\0127.0.0.1:1", own),
        (12, 1, b"/x/pulumi-resource-docker\0127.0.0.1:1", b"PULUMI_HOME=/home/ops/.pulumi\0"),
        (13, 1, b"/usr/bin/python3\0-m\0http.server", own),
        (14, 1, b"/x/venv/bin/python\0-m\0infra.providers.plugins\0docker\0127.0.0.1:1", own),
        (15, 1, b"tail\0-f\0/home/ops/pulumi-up.log", own),
        (16, 1, b"/x/python\0-u\0/x/pulumi-language-python-exec\0--monitor\0127.0.0.1:2", own),
    ):
        process(tmp_path, pid, "x", parent=parent)
        (tmp_path / str(pid) / "cmdline").write_bytes(command)
        (tmp_path / str(pid) / "environ").write_bytes(environ)
    assert sorted(state.orphans(tmp_path)) == [10, 14, 16]


def test_the_backend_is_the_one_of_pulumi_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    assert state.backend() == paths.pulumi_backend() / ".pulumi"
    named = yaml.safe_load((paths.REPOSITORY / "Pulumi.yaml").read_text())["backend"]["url"]
    assert Path(named.removeprefix("file://")).expanduser() == paths.pulumi_backend()
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://states")
    with pytest.raises(ToolchainError, match="s3://states"):
        state.backend()


def test_an_unknown_stack_is_refused_by_the_names_there_are() -> None:
    with pytest.raises(ToolchainError, match=r"no stack nowhere; accepted: .*local"):
        state.ensure_stack("nowhere")


class Thing:
    def __init__(self, room: dict[str, Thing], name: str) -> None:
        self.room, self.name, self.status = room, name, "running"

    def remove(self, force: bool = False) -> None:
        del self.room[self.name]


class Room:
    def __init__(self, *names: str) -> None:
        self.things: dict[str, Thing] = {}
        for name in names:
            self.things[name] = Thing(self.things, name)

    def get(self, name: str) -> Thing:
        try:
            return self.things[name]
        except KeyError:
            raise NotFound(name) from None


class Engine:
    def __init__(self) -> None:
        self.containers = Room("icupa-local-acme", "icupa-local-login", "postgres")
        self.networks = Room("icupa-local-internet")
        self.volumes = Room()


def operation(kind: str, resource: str, name: str) -> dict[str, Any]:
    urn = f"urn:pulumi:local::icupa::{resource}::{name}"
    return {"type": kind, "resource": {"urn": urn, "type": resource, "inputs": {"name": name}}}


def test_settle_removes_what_was_being_created_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    container = "docker:index/container:Container"
    operations = [
        operation("creating", container, "icupa-local-acme"),
        operation("updating", container, "icupa-local-login"),
        operation("creating", container, "postgres"),
        operation("creating", container, "icupa-local-never-made"),
        operation("creating", "docker:index/network:Network", "icupa-local-internet"),
    ]
    document = {"version": 3, "deployment": {"resources": [1], "pending_operations": operations}}
    engine = Engine()
    imported: list[dict[str, Any]] = []

    def pulumi(*arguments: str, given: str | None = None) -> str:
        if "import" in arguments:
            assert given is not None
            imported.append(json.loads(given))
            return ""
        return json.dumps(document)

    monkeypatch.setattr(state, "_pulumi", pulumi)
    monkeypatch.setattr("docker.from_env", lambda: engine)
    assert len(state.settle(STACK)) == len(operations)
    assert sorted(engine.containers.things) == ["icupa-local-login", "postgres"]
    assert engine.networks.things == {}
    assert imported == [{"version": 3, "deployment": {"resources": [1]}}]


def test_missing_names_what_the_engine_does_not_have_or_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    container, network = "docker:index/container:Container", "docker:index/network:Network"
    resources = [
        {"type": "pulumi:pulumi:Stack", "inputs": {}},
        *(
            {"type": kind, "id": name, "inputs": {"name": f"named-{name}"}}
            for kind, name in (
                (container, "icupa-local-acme"),
                (container, "icupa-local-login"),
                (container, "gone"),
                (network, "icupa-local-internet"),
                (network, "cut"),
            )
        ),
    ]
    engine = Engine()
    engine.containers.things["icupa-local-login"].status = "exited"
    monkeypatch.setattr(state, "_pulumi", lambda *_: json.dumps({"deployment": {"resources": resources}}))
    monkeypatch.setattr("docker.from_env", lambda: engine)
    assert state.missing(STACK) == ["named-icupa-local-login", "named-gone", "named-cut"]


def test_nothing_is_missing_where_nothing_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_pulumi", lambda *_: json.dumps({"version": 3, "deployment": {}}))
    monkeypatch.setattr("docker.from_env", Engine)
    assert state.missing(STACK) == []


@pytest.mark.parametrize("ended", [False, True])
def test_settle_touches_nothing_of_a_run_that_began_meanwhile(
    monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    container = "docker:index/container:Container"
    operations = [operation("creating", container, "icupa-local-acme")]
    exports: list[dict[str, Any]] = [{"deployment": {"resources": [], "pending_operations": operations}}]
    if ended:
        exports.insert(0, {"deployment": {"resources": [1]}})
    else:
        lock(state.backend(), os.getpid())
        monkeypatch.setattr(state, "_is_pulumi", lambda pid, proc: pid == os.getpid())

    def pulumi(*arguments: str, given: str | None = None) -> str:
        assert arguments[1] == "export"
        return json.dumps(exports.pop() if len(exports) > 1 else exports[0])

    engine = Engine()
    before = sorted(engine.containers.things)
    monkeypatch.setattr(state, "_pulumi", pulumi)
    monkeypatch.setattr("docker.from_env", lambda: engine)
    with pytest.raises(ToolchainError, match=r"changed by another run|which is running"):
        state.settle(STACK)
    assert sorted(engine.containers.things) == before


def test_settle_leaves_state_without_pending_operations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def pulumi(*arguments: str, given: str | None = None) -> str:
        asked.append(arguments)
        return json.dumps({"version": 3, "deployment": {"resources": []}})

    monkeypatch.setattr(state, "_pulumi", pulumi)
    assert state.settle(STACK) == []
    assert asked == [("stack", "export", "--stack", STACK)]


@pytest.mark.parametrize(
    ("parent", "name", "found"),
    [(1, "systemd", [10]), (900, "systemd", [10]), (900, "bash", []), (1, "tini", [10]), (1, "pulumi", [])],
)
def test_an_orphan_is_known_by_who_inherited_it(
    tmp_path: Path, parent: int, name: str, found: list[int]
) -> None:
    process(tmp_path, parent, name, parent=0)
    process(tmp_path, 10, "x", parent=parent)
    for pid, command in ((parent, b"/sbin/init"), (10, b"/x/pulumi-resource-docker\0127.0.0.1:1")):
        (tmp_path / str(pid) / "cmdline").write_bytes(command)
        (tmp_path / str(pid) / "environ").write_bytes(f"PULUMI_HOME={paths.pulumi_home()}\0".encode())
    assert state.orphans(tmp_path) == found


def test_our_own_plugins_are_recognised_by_what_their_executable_runs(tmp_path: Path) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text('#!/bin/sh\nprintf \'%s\\0\' "$0" "$@"\n')
    interpreter.chmod(0o755)
    executable = tmp_path / executable_name("docker")
    write_executable("docker", executable)
    text = executable.read_text()
    executable.write_text(text.replace(shlex.quote(sys.executable), str(interpreter)))
    ran = subprocess.run([executable, "127.0.0.1:1"], capture_output=True, check=True)
    assert state._is_plugin(ran.stdout.split(b"\0"))


def test_own_process_is_no_orphan() -> None:
    assert os.getpid() not in state.orphans()


def test_a_stack_of_a_shared_backend_is_not_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: str, given: str | None = None) -> str:
        raise AssertionError(f"pulumi {arguments} {given}")

    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://icupa-pulumi-state")
    monkeypatch.setattr(state, "_pulumi", refused)
    state.ensure_stack("production")
