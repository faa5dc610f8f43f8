"""The queue: `outbox/<id>.json` in the record's store, created once, removed only when it was delivered.

Who delivers a message first claims it by a conditional write, so that of several deliverers one sends it. A
claim ends by itself, and at once where its process is seen dead: a message whose deliverer was killed after
the webhook had taken it is sent again, since nobody can know. Refused messages stay until they are delivered.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from pydantic import ValidationError

from infra.notify.message import Message
from infra.record import ConflictError, NotFoundError, Store
from infra.record import process as processes
from infra.record.model import Model, Utc, canonical, now

FOLDER = "outbox"
CLAIM_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Claim(Model):
    """Who is sending a message, and until when nobody else may."""

    process: str | None
    host: str
    until: Utc

    @classmethod
    def mine(cls) -> Claim:
        """A claim of this process."""
        return cls(
            process=processes.identify(os.getpid()),
            host=socket.gethostname(),
            until=now() + timedelta(seconds=CLAIM_SECONDS),
        )

    @property
    def holds(self) -> bool:
        """Whether its holder may still be sending."""
        return now() < self.until and not processes.is_dead(self.process, self.host)


class Entry(Model):
    """An object of the queue."""

    message: Message
    attempts: int = 0
    claim: Claim | None = None
    problem: str = ""
    """Why the last attempt failed."""
    refused: bool = False
    """Whether the webhook will not take it however often it is tried."""

    @property
    def state(self) -> str:
        """One word for people."""
        if self.refused:
            return "refused"
        return "being sent" if self.claim is not None and self.claim.holds else "waiting"


@dataclass(frozen=True)
class Queued:
    """An entry with the version in which it was read."""

    entry: Entry
    version: str

    @property
    def key(self) -> str:
        """Key of its object."""
        return key_of(self.entry.message.id)


def key_of(message_id: str) -> str:
    """Key of a message's object."""
    return f"{FOLDER}/{message_id}.json"


class Outbox:
    """Messages that were not delivered yet."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, message: Message) -> bool:
        """Queue a message; False if it is queued already."""
        try:
            self._store.put_if_absent(key_of(message.id), _encode(Entry(message=message)))
        except ConflictError:
            return False
        return True

    def holds(self, message_id: str) -> bool:
        """Whether a message is still queued."""
        return self._read(key_of(message_id)) is not None

    def get(self, message_id: str) -> Entry | None:
        """A queued message, if it is there."""
        found = self._read(key_of(message_id))
        return found.entry if found else None

    def entries(self) -> list[Queued]:
        """All that is queued, oldest first."""
        return sorted(self._all(), key=lambda queued: (queued.entry.message.at, queued.entry.message.id))

    def ids(self) -> set[str]:
        """Ids of all that is queued, without reading it."""
        return {key.removeprefix(f"{FOLDER}/").removesuffix(".json") for key in self._store.list(FOLDER)}

    def claim(self, queued: Queued) -> Queued | None:
        """Claim a message for sending; None if it is gone, or somebody else's."""
        entry = queued.entry
        if entry.claim is not None and entry.claim.holds:
            return None
        changed = entry.model_copy(update={"claim": Claim.mine(), "attempts": entry.attempts + 1})
        return self._write(queued, changed)

    def give_back(self, claimed: Queued, problem: str, *, refused: bool) -> None:
        """A claimed message could not be sent."""
        changed = {"claim": None, "problem": problem, "refused": refused}
        if self._write(claimed, claimed.entry.model_copy(update=changed)) is None:
            _log.warning("%s was taken over by another deliverer", claimed.key)

    def delivered(self, claimed: Queued) -> None:
        """A claimed message was taken by its webhook: remove it."""
        self._store.delete(claimed.key)

    def _all(self) -> Iterator[Queued]:
        for key in self._store.list(FOLDER):
            found = self._read(key)
            if found is not None:
                yield found

    def _read(self, key: str) -> Queued | None:
        try:
            stored = self._store.get(key)
        except NotFoundError:
            return None
        try:
            return Queued(Entry.model_validate_json(stored.data), stored.version)
        except ValidationError:
            _log.error("%s in %s is no message; look at it, then remove it", key, self._store.url)
            return None

    def _write(self, queued: Queued, entry: Entry) -> Queued | None:
        try:
            return Queued(entry, self._store.put_if_match(queued.key, _encode(entry), queued.version))
        except (ConflictError, NotFoundError):
            return None


def _encode(entry: Entry) -> bytes:
    return canonical(entry.model_dump(mode="json"))
