"""The detached deliverer: one process a stack and machine, which outlives whoever started it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import paths
from infra.notify.delivery import Deliverer

LIMIT = 6 * 3600.0
"""Seconds after which a deliverer gives up; the next procedure starts another."""

_LOCK = "notify.lock"
_LOG = "notify.log"
_LARGEST_LOG = 1024 * 1024


def log_file(stack: str) -> Path:
    """What the deliverer of a stack last said."""
    return paths.stack_home(stack) / _LOG


def start(stack: str) -> None:
    """Start a deliverer in a session of its own: it is nobody's to end but its own.

    One that runs already goes on, and the new one ends at once.
    """
    paths.private(paths.stack_home(stack))
    descriptor = os.open(log_file(stack), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.fstat(descriptor).st_size > _LARGEST_LOG:
        os.ftruncate(descriptor, 0)
    try:
        subprocess.Popen(
            [sys.executable, "-m", "infra.notify", "--stack", stack, "deliver", "--background"],
            cwd=paths.REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def deliver(stack: str, deliverer: Deliverer, limit: float = LIMIT) -> bool:
    """Be the deliverer of a stack until nothing waits; False if another one is, or time is up.

    Whoever queues a message while this one is about to end finds its lock taken and leaves it to this one: so
    it looks once more after it has given the lock back.
    """
    while True:
        with _alone(stack) as alone:
            if not alone or not deliverer.until_empty(limit):
                return False
        if not deliverer.has_work():
            return True


@contextmanager
def _alone(stack: str) -> Iterator[bool]:
    """Whether this is a stack's only deliverer on this machine; the kernel frees what a dead one held."""
    descriptor = os.open(paths.private(paths.stack_home(stack)) / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
