"""Repairs what a killed `pulumi up` leaves in the file backend: its lock and its pending operations.

It says too what the engine has lost since, which `pulumi up` alone does not ask.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import docker
import yaml
from docker.errors import DockerException, NotFound

from infra import paths
from infra.toolchain import environment
from infra.toolchain.errors import ToolchainError

_CREATING = "creating"
_END_DEADLINE = 10.0
_NAME_PREFIX = "icupa-"
_PLUGIN_PREFIXES = (b"pulumi-resource-", b"pulumi-language-")
_OWN_PLUGINS = b"infra.providers.plugins"
_FIRST_ARGUMENTS = 4


class _Kind(StrEnum):
    """Types of resources that live in the engine."""

    CONTAINER = "docker:index/container:Container"
    NETWORK = "docker:index/network:Network"
    VOLUME = "docker:index/volume:Volume"


@dataclass(frozen=True)
class Lock:
    """A lock of the file backend: who took it."""

    file: Path
    pid: int
    hostname: str
    username: str


@dataclass(frozen=True)
class Pending:
    """An operation that was begun and not known to have ended."""

    operation: str
    urn: str
    type: str
    inputs: Mapping[str, Any]


def project_name() -> str:
    """Return the project's name as Pulumi.yaml has it."""
    document = yaml.safe_load((paths.REPOSITORY / "Pulumi.yaml").read_text())
    return str(document["name"])


def backend() -> Path:
    """Return the directory in which the file backend keeps its files.

    Raises:
        ToolchainError: if the environment chooses another kind of backend.
    """
    url = _backend_url()
    scheme, _, place = url.partition("://")
    if scheme != "file":
        raise ToolchainError(f"PULUMI_BACKEND_URL={url} is no file backend: its locks are not repaired here")
    return Path(place).expanduser() / ".pulumi"


def _backend_url() -> str:
    return environment.variables(os.environ)["PULUMI_BACKEND_URL"]


def locks(stack: str, room: Path | None = None) -> Iterator[Lock]:
    """Yield the locks on a stack."""
    home = (room or backend()) / "locks" / "organization" / project_name() / stack
    for file in sorted(home.glob("*.json")):
        try:
            facts = json.loads(file.read_text())
            yield Lock(file, int(facts["pid"]), str(facts["hostname"]), str(facts.get("username", "")))
        except FileNotFoundError:
            continue
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            # Written half when its holder was killed: it names nobody, and nobody can hold it.
            yield Lock(file, 0, socket.gethostname(), "")


def clear_dead_locks(stack: str, room: Path | None = None, proc: Path = Path("/proc")) -> list[Lock]:
    """Remove the locks on `stack` whose holder is dead; return them.

    Raises:
        ToolchainError: if the holder lives, or is on another machine, where that can't be known.
    """
    cleared = []
    for lock in locks(stack, room):
        who = f"{lock.username}@{lock.hostname} (process {lock.pid})"
        if lock.hostname != socket.gethostname():
            raise ToolchainError(
                f"stack {stack} is locked by {who} on another machine. If that run is over: "
                f"pulumi cancel --stack {stack}"
            )
        if _is_pulumi(lock.pid, proc):
            raise ToolchainError(f"stack {stack} is locked by {who}, which is running: wait for it to end")
        for file in (lock.file, lock.file.with_name(f"{lock.file.name}.attrs")):
            file.unlink(missing_ok=True)
        cleared.append(lock)
    return cleared


def _is_pulumi(pid: int, proc: Path) -> bool:
    """Say if the process lives and is Pulumi: an id may since have gone to another program."""
    if pid <= 0:
        return False
    try:
        status = (proc / str(pid) / "stat").read_text()
    except OSError:
        return _hidden(pid)
    name = status[status.index("(") + 1 : status.rindex(")")]
    state = status[status.rindex(")") + 2]
    return name.startswith("pulumi") and state not in {"Z", "X"}


def _hidden(pid: int) -> bool:
    """Say if a process that /proc does not show runs all the same, as another user's: it may be Pulumi."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


def _is_plugin(arguments: Sequence[bytes]) -> bool:
    """Say if a command line is a plugin's: an executable named so, an interpreter's of one, or ours."""
    names = [argument.rpartition(b"/")[2] for argument in arguments[:_FIRST_ARGUMENTS]]
    return any(name == _OWN_PLUGINS or name.startswith(_PLUGIN_PREFIXES) for name in names)


def _is_reaper(pid: int, proc: Path) -> bool:
    """Say if a process inherits those of dead ones: the first one, unless an engine, or a user's systemd."""
    try:
        status = (proc / str(pid) / "stat").read_text()
    except OSError:
        return pid == 1
    name = status[status.index("(") + 1 : status.rindex(")")]
    return name == "systemd" or (pid == 1 and not name.startswith("pulumi"))


def orphans(proc: Path = Path("/proc")) -> list[int]:
    """Return the ids of plugin processes of this PULUMI_HOME whose engine is dead."""
    room = f"PULUMI_HOME={paths.pulumi_home()}".encode()
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            status = (entry / "stat").read_text()
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        parent = int(status[status.rindex(")") + 2 :].split()[1])
        if _is_reaper(parent, proc) and _is_plugin(arguments) and room in variables:
            found.append(int(entry.name))
    return found


def end_orphans(proc: Path = Path("/proc")) -> list[int]:
    """End the plugins of a dead engine, so that nothing is made behind the next run's back; return their ids.

    Raises:
        ToolchainError: if one of them does not end.
    """
    found = orphans(proc)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _END_DEADLINE
    while alive := sorted(set(found) & set(orphans(proc))):
        if time.monotonic() > deadline:
            raise ToolchainError(f"plugins of a dead engine do not end: {alive}")
        time.sleep(0.05)
    return found


def exists(stack: str, room: Path | None = None) -> bool:
    """Say if the file backend knows the stack."""
    return ((room or backend()) / "stacks" / project_name() / f"{stack}.json").is_file()


def ensure_stack(stack: str) -> None:
    """Make the stack in the file backend where it is missing; needs no account.

    In a backend that operators share, a stack is made by one of them.

    Raises:
        ToolchainError: if there is no such stack file, or Pulumi refuses.
    """
    if not _backend_url().startswith("file:") or exists(stack):
        return
    files = paths.REPOSITORY / "stacks"
    if not (files / f"Pulumi.{stack}.yaml").is_file():
        known = sorted(file.name.split(".")[1] for file in files.glob("Pulumi.*.yaml"))
        raise ToolchainError(f"there is no stack {stack}; accepted: {', '.join(known)}")
    paths.private(backend().parent)
    _pulumi("stack", "init", stack, "--no-select")


def pending(deployment: Mapping[str, Any]) -> list[Pending]:
    """Return the pending operations of an exported deployment."""
    operations = deployment.get("deployment", {}).get("pending_operations") or []
    return [
        Pending(
            operation=str(entry["type"]),
            urn=str(entry["resource"]["urn"]),
            type=str(entry["resource"]["type"]),
            inputs=entry["resource"].get("inputs") or {},
        )
        for entry in operations
    ]


def settle(stack: str) -> list[Pending]:
    """Undo creations that state does not know of, then forget all pending operations; return them.

    What was being created may exist: it is removed by its name, so that the next `up` makes it. What was
    being updated or deleted is still in state; the next `up` must refresh.

    Raises:
        ToolchainError: if state can't be exported or imported, or another run has begun.
    """
    document = json.loads(_pulumi("stack", "export", "--stack", stack))
    found = pending(document)
    if not found:
        return []
    # They may be those of a run that began after its lock was looked for; it took that before it wrote them.
    clear_dead_locks(stack)
    if json.loads(_pulumi("stack", "export", "--stack", stack)) != document:
        raise ToolchainError(f"stack {stack} was changed by another run meanwhile: try again")
    client = docker.from_env()
    for operation in found:
        if operation.operation == _CREATING:
            _remove_unrecorded(client, operation)
    del document["deployment"]["pending_operations"]
    _pulumi("stack", "import", "--stack", stack, given=json.dumps(document))
    return found


def missing(stack: str) -> list[str]:
    """Names of containers, networks and volumes that state knows and the engine does not, or does not run.

    Raises:
        ToolchainError: if state can't be exported or the engine does not answer.
    """
    deployment = json.loads(_pulumi("stack", "export", "--stack", stack)).get("deployment", {})
    client = docker.from_env()
    return [
        str(resource["inputs"].get("name", resource["id"]))
        for resource in deployment.get("resources") or []
        if resource["type"] in set(_Kind) and not _is_there(client, resource["type"], str(resource["id"]))
    ]


def _is_there(client: docker.DockerClient, kind: str, identity: str) -> bool:
    try:
        match kind:
            case _Kind.CONTAINER:
                return bool(client.containers.get(identity).status == "running")
            case _Kind.NETWORK:
                client.networks.get(identity)
            case _Kind.VOLUME:
                client.volumes.get(identity)
    except NotFound:
        return False
    except DockerException as error:
        raise ToolchainError(f"the engine does not say whether {identity} is there: {error}") from error
    return True


def _remove_unrecorded(client: docker.DockerClient, operation: Pending) -> None:
    """Remove a container, network or volume that was being created, if it bears the project's prefix."""
    name = str(operation.inputs.get("name", ""))
    if not name.startswith(_NAME_PREFIX):
        return
    try:
        match operation.type:
            case _Kind.CONTAINER:
                client.containers.get(name).remove(force=True)
            case _Kind.NETWORK:
                client.networks.get(name).remove()
            case _Kind.VOLUME:
                client.volumes.get(name).remove(force=True)
            case _:
                return
    except NotFound:
        return
    except DockerException as error:
        raise ToolchainError(f"{name}, left by a run that was killed, can't be removed: {error}") from error


def _pulumi(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(
        ["pulumi", *arguments],
        input=given,
        cwd=paths.REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ToolchainError(f"pulumi {' '.join(arguments)} failed:\n{done.stderr.strip()}")
    return done.stdout
