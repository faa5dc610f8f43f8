"""Documents of the double in SQLite: what was answered is on disk."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Document = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, id)
)
"""


def digest(value: str) -> str:
    """SHA-256 in hexadecimal: credentials are kept as this only."""
    return hashlib.sha256(value.encode()).hexdigest()


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def new_id(prefix: str, octets: int = 12) -> str:
    """Return an id that nobody can guess."""
    return f"{prefix}{secrets.token_hex(octets)}"


class Store:
    """Documents by kind and id, in the order in which they were made.

    Who calls is checked in threads beside the event loop, so one thread at a time has the connection: two
    that step one statement find nothing, or something broken.
    """

    def __init__(self, path: Path | str) -> None:
        self._alone = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what happens inside; nobody else sees it before it is all there."""
        with self._alone:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def put(self, kind: str, key: str, document: Document) -> Document:
        """Add a document, or replace it in its place; return it."""
        body = json.dumps(document)
        with self._alone:
            self._connection.execute(
                "INSERT INTO documents (kind, id, body) VALUES (?, ?, ?)"
                " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (kind, key, body),
            )
        return document

    def get(self, kind: str, key: str) -> Document | None:
        """Return a document, or None."""
        with self._alone:
            row = self._connection.execute(
                "SELECT body FROM documents WHERE kind = ? AND id = ?", (kind, key)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def delete(self, kind: str, key: str) -> bool:
        """Delete a document; tell whether there was one."""
        with self._alone:
            cursor = self._connection.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, key))
            return cursor.rowcount > 0

    def delete_where(self, kind: str, field: str, value: object) -> bool:
        """Delete the documents of a kind whose `field` is `value`; tell whether there was one."""
        cursor = self._connection.execute(
            "DELETE FROM documents WHERE kind = ? AND json_extract(body, '$.' || ?) = ?", (kind, field, value)
        )
        return cursor.rowcount > 0

    def all(self, kind: str) -> list[Document]:
        """Return every document of a kind, oldest first."""
        with self._alone:
            rows = self._connection.execute(
                "SELECT body FROM documents WHERE kind = ? ORDER BY position", (kind,)
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def find(self, kind: str, field: str, value: object) -> Document | None:
        """Return the first document of a kind whose `field` is `value`, or None."""
        return next((item for item in self.all(kind) if item.get(field) == value), None)
