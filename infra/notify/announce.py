"""What procedures call: queue a message, have it delivered, wait a moment; nothing of it can fail them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from infra.notify import background
from infra.notify.message import Message
from infra.notify.outbox import Outbox
from infra.notify.stack import NotifyError, Post
from infra.record import RecordError, Store
from infra.secretstore import SecretStoreError
from infra.secretstore.redaction import redaction_of

PATIENCE = 5.0
"""Seconds that a procedure waits for its message to be delivered; afterwards it is delivered without it."""

_POLL = 0.1
_HIDDEN = "Details were left out: values of secrets could not be read, so they could not be taken out."


@dataclass(frozen=True)
class Announced:
    """What became of a message: `queued` False means that it could not even be stored, `problem` says why."""

    queued: bool
    delivered: bool
    problem: str = ""


def announce(stack: str, message: Message, patience: float = PATIENCE) -> Announced:
    """Queue a message without values of secrets, start the deliverer, wait up to `patience` seconds."""
    queued = False
    try:
        post = Post(stack)
        post.outbox.put(without_secrets(message, post))
        queued = True
        background.start(stack)
        return _await(post, message.id, patience)
    except (NotifyError, RecordError, OSError) as error:
        return Announced(queued=queued, delivered=False, problem=str(error))


def without_secrets(message: Message, post: Post) -> Message:
    """A message as it may be stored and sent."""
    try:
        return message.redacted(redaction_of(post.secrets))
    except (SecretStoreError, RecordError):
        return message.bare(_HIDDEN)


def resume(stack: str, store: Store) -> bool:
    """Start a deliverer where messages of earlier procedures wait; whether it was started."""
    try:
        if not Outbox(store).ids():
            return False
        background.start(stack)
    except (RecordError, OSError):
        return False
    return True


def _await(post: Post, message_id: str, patience: float) -> Announced:
    ends = time.monotonic() + patience
    while True:
        entry = post.outbox.get(message_id)
        if entry is None:
            return Announced(queued=True, delivered=True)
        if entry.refused or time.monotonic() > ends:
            return Announced(queued=True, delivered=False, problem=entry.problem)
        time.sleep(_POLL)
