"""Fencing on a host: what an operation changes here carries its token, and an older one is refused.

The lease keeps two operations apart as long as both look at it. One that was stopped between looking and
doing would go on on the host when it wakes, after another took the lease away from it: the host itself
remembers the highest token that it has seen.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "/var/lib/icupa/fence"
PATIENCE = 60.0
"""Seconds to wait for a change of another operation that is under way on this host."""
_PAUSE = 0.1


class FencedError(Exception):
    """A later operation has changed this host already, or is changing it and does not end."""


@contextmanager
def fenced(token: int, file: str = FILE, patience: float = PATIENCE) -> Iterator[None]:
    """Keep other operations from changing this host while the block runs.

    Token 0 is no operation: roles that are run by themselves are kept from nothing.

    Raises:
        FencedError: an operation with a greater token was here; nothing may be changed.
    """
    if token == 0:
        yield
        return
    path = Path(file)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        _lock(descriptor, path, patience)
        seen = int(os.pread(descriptor, 20, 0).strip() or 0)
        if token < seen:
            raise FencedError(
                f"an operation with token {seen} has changed this host; this one has {token} and came too"
                f" late. Where the record was made anew since, remove {path}"
            )
        if token > seen:
            # Tokens only grow, so that a longer text overwrites a shorter one in one write.
            os.pwrite(descriptor, f"{token}\n".encode(), 0)
            os.fsync(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FencedError(
                    f"another operation has been changing this host for {patience:.0f} s ({path})"
                ) from None
            time.sleep(_PAUSE)
        else:
            return
