"""The protocol that every store of the record speaks: whole objects and conditional writes, nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*(/[a-zA-Z0-9][a-zA-Z0-9._-]*)*")


@dataclass(frozen=True)
class Stored:
    """One object as it was read: its bytes and the version to name in `put_if_match`."""

    data: bytes
    version: str


class Store(Protocol):
    """Objects by key with exact conditional writes (design, rule 2).

    A version identifies *content*: S3 uses a digest of the bytes. Whatever is written with `put_if_match`
    must therefore never return to earlier bytes: documents of the record carry a counter or a random id.
    """

    @property
    def url(self) -> str:
        """Where the store is, for messages; never holds credentials."""
        ...

    def get(self, key: str) -> Stored:
        """Read an object; `NotFoundError` if there is none."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Create an object and return its version; `ConflictError` if it exists."""
        ...

    def put_if_match(self, key: str, data: bytes, version: str) -> str:
        """Replace the object if it still is `version`, return the new one; `ConflictError` if it is not."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object, whatever its version; nothing happens if there is none."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Keys below the folder `prefix` (all keys for an empty prefix), sorted."""
        ...


def check_key(key: str) -> str:
    """Return `key` if it is a plain relative path that every driver can hold, else raise ValueError."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key: parts of letters, digits, '.', '_', '-' joined by '/'")
    return key
