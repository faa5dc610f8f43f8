"""Who and what is running: names for the log, and whether the process that took a lease is dead."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

_OPERATOR = "ICUPA_OPERATOR"
_STATE_FIELD = 0
_START_TIME_FIELD = 19


def operator() -> str:
    """Who acts: ICUPA_OPERATOR, else the user's name."""
    return os.environ.get(_OPERATOR) or getpass.getuser()


def identify(pid: int) -> str | None:
    """A name for one process that no other ever gets on any machine; None if it does not run."""
    started = _started(pid)
    return None if started is None else f"{_boot()}/{_namespace()}/{pid}/{started}"


def is_dead(name: str | None, host: str) -> bool:
    """Whether it is certain that the process named by `identify` on `host` does not run any more.

    False where that can't be seen from here: another machine, another PID namespace, a `/proc` that hides
    other users' processes.
    """
    if name is None:
        return False
    try:
        boot, namespace, pid, started = name.split("/")
    except ValueError:
        return False
    if host != socket.gethostname() or boot != _boot() or namespace != _namespace():
        return False
    now = _started(int(pid))
    return now != started if now is not None else not _hidden(int(pid))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _hidden(pid: int) -> bool:
    """Whether a process that `/proc` does not show runs all the same, as somebody else's."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


def _started(pid: int) -> str | None:
    """Start time of a running process in clock ticks since boot."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE_FIELD] in ("Z", "X") else fields[_START_TIME_FIELD]
