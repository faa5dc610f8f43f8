"""A backup as the module makes it, of a made-up dump, and a store that holds it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]
import pytest

from infra.backup import Manifest, put_part, save
from infra.record import open_store
from infra.record.store import Store
from infra.secrets import generators

PART = 1000
PLAIN = b"a dump of the database" * 500
NAME = "20261120T020000Z-primary"


@dataclass
class Backup:
    """Who may open it, what it is, what is stored."""

    identity: str
    manifest: Manifest
    parts: list[bytes]

    def store(self, store: Store) -> None:
        """Put all of it into a store."""
        for number, data in enumerate(self.parts):
            put_part(store, self.manifest, number, data)
        save(store, self.manifest)


def manifest(stored: bytes, recipient: str, **changes: Any) -> dict[str, Any]:
    """A manifest as it is encoded."""
    pieces = [stored[start : start + PART] for start in range(0, len(stored), PART)]
    return {
        "schema": 1,
        "id": NAME,
        "environment": "test",
        "host": "primary",
        "taken_at": "2026-11-20T02:00:00Z",
        "seconds": 2.5,
        "database": "agents",
        "database_size": 10_000_000,
        "server_version": "17.5",
        "revision": "0001",
        "format": "pg_dump custom, age",
        "recipient": recipient,
        "tools": {"pg_dump": "17.5", "age": "1.2"},
        "tables": {"public.vouchers": {"rows": 3, "content": "17"}},
        "proof": {"tables": 1, "seconds": 1.0},
        "sha256": hashlib.sha256(stored).hexdigest(),
        "size": len(stored),
        "parts": [{"size": len(piece), "sha256": hashlib.sha256(piece).hexdigest()} for piece in pieces],
        "plain_sha256": hashlib.sha256(PLAIN).hexdigest(),
        "plain_size": len(PLAIN),
        **changes,
    }


def made(**changes: Any) -> Backup:
    """A backup of PLAIN."""
    identity = generators.age_identity()
    recipient = generators.age_recipient(identity)
    stored = pyrage.encrypt(PLAIN, [pyrage.x25519.Recipient.from_str(recipient)])
    parsed = Manifest.parse(manifest(stored, recipient, **changes))
    parts = [stored[start : start + PART] for start in range(0, len(stored), PART)]
    return Backup(identity, parsed, parts)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store({"url": f"file://{tmp_path}/record"})


@pytest.fixture
def backup() -> Backup:
    return made()
