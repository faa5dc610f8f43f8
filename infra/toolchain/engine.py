"""Docker Engine: used where it runs, started or installed where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import docker
from docker.errors import DockerException

from infra import paths
from infra.toolchain import debian
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import exclusive
from infra.toolchain.progress import Progress

# Programs that the engine can't do without, and that Debian's package only recommends.
COMMANDS = ("dockerd", "iptables")

_START_DEADLINE = 90.0
_POLL = 0.25
_SYSTEMD = Path("/run/systemd/system")
_PID_FILE = Path("/var/run/docker.pid")


def version() -> str | None:
    """Return the version of the engine that answers, or None."""
    try:
        client = docker.from_env(timeout=20)
        try:
            return str(client.version()["Version"])
        finally:
            client.close()
    except DockerException:
        return None


def ensure(progress: Progress) -> str:
    """Return the version of a running engine, installed and started where needed.

    Raises:
        ToolchainError: if none answers and it can't be started here.
    """
    found = version()
    if found is not None:
        return found
    with exclusive(paths.cache_home() / "locks" / "engine.lock"):
        found = version()
        if found is not None:
            return found
        if os.environ.get("DOCKER_HOST"):
            raise ToolchainError(f"no Docker Engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}")
        if os.geteuid() != 0:
            raise ToolchainError(
                "no Docker Engine answers, or you may not use it: start it and join its group, or run as root"
            )
        debian.install(COMMANDS, progress)
        with progress.job("docker engine"):
            return _start(progress)


def _start(progress: Progress) -> str:
    progress.phase("docker engine", "start")
    log = paths.state_home() / "dockerd.log"
    process: subprocess.Popen[bytes] | None = None
    if not running():
        if _SYSTEMD.is_dir():
            subprocess.run(["systemctl", "start", "docker"], check=False)
        else:
            process = _detached(log)
    deadline = time.monotonic() + _START_DEADLINE
    while time.monotonic() < deadline:
        found = version()
        if found is not None:
            return found
        if process is not None and process.poll() is not None:
            break
        time.sleep(_POLL)
    where = "journalctl -u docker" if process is None else str(log)
    raise ToolchainError(f"Docker Engine did not start; see {where}{_tail(log) if process else ''}")


def running(proc: Path = Path("/proc")) -> bool:
    """Say if a `dockerd` runs in this PID namespace: one that only just starts must not be doubled."""
    own = (proc / "self" / "ns" / "pid").readlink()
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "comm").read_text().strip() != "dockerd":
                continue
            if (entry / "ns" / "pid").readlink() == own:
                return True
        except OSError:
            continue
    return False


def _detached(log: Path) -> subprocess.Popen[bytes]:
    """Start dockerd so that it outlives this run, where there is no systemd to do so."""
    # dockerd refuses to start when the process of a stale file's id is alive, which it may be by chance.
    _PID_FILE.unlink(missing_ok=True)
    paths.private(log.parent)
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ToolchainError("dockerd is not on PATH after it was installed")
    with log.open("ab") as file:
        return subprocess.Popen(
            [program],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            cwd="/",
        )


def _tail(log: Path, lines: int = 10) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return ":\n" + "\n".join(text[-lines:])
