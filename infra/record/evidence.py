"""Evidence: what was seen when an operation failed, kept beside the log and named by its events.

An object `evidence/<operation id>/<name>` is written once; the event that refers to it holds its hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from pydantic import Field, ValidationError

from infra.record.errors import ConflictError, CorruptRecordError, NotFoundError, RecordError
from infra.record.model import Event, Hash, Model, Text
from infra.record.store import Store

PREFIX = "evidence"
LARGEST = 1024 * 1024
"""Bytes of one piece; what is longer must be cut by who saves it."""

DETAIL = "evidence"
"""Key of an event's details that lists pieces."""

_PART = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}")
_MOST_OF_A_NAME = 1000


class Evidence(Model):
    """Reference to one piece, as events hold it."""

    key: Text
    sha256: Hash
    size: int = Field(ge=0, le=LARGEST)


def put(store: Store, operation_id: str, name: str, data: bytes) -> Evidence:
    """Save a piece; under a numbered name where another piece has this one, for operations are run again.

    Raises:
        RecordError: it is too large, or a name can't be part of a key.
    """
    for part in (operation_id, name):
        if not _PART.fullmatch(part):
            raise RecordError(f"evidence: {part!r} must be of letters, digits, '.', '_', '-'")
    if len(data) > LARGEST:
        raise RecordError(f"evidence: {name} has {len(data)} bytes, at most {LARGEST} are kept: cut it")
    path = PurePosixPath(name)
    for number in range(1, _MOST_OF_A_NAME):
        unique = name if number == 1 else f"{path.stem}-{number}{path.suffix}"
        key = f"{PREFIX}/{operation_id}/{unique}"
        try:
            store.put_if_absent(key, data)
        except ConflictError:
            if store.get(key).data != data:
                continue
        return Evidence(key=key, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    raise RecordError(f"evidence: {operation_id} has {_MOST_OF_A_NAME} pieces called {name} already")


def get(store: Store, reference: Evidence) -> bytes:
    """Read a piece.

    Raises:
        CorruptRecordError: it is not what the event names.
    """
    try:
        data = store.get(reference.key).data
    except NotFoundError:
        raise CorruptRecordError(f"{reference.key} is missing in {store.url}") from None
    if hashlib.sha256(data).hexdigest() != reference.sha256:
        raise CorruptRecordError(f"{reference.key} in {store.url} was changed: its hash does not fit")
    return data


def named_by(event: Event) -> Iterator[Evidence]:
    """Pieces that an event names; none where it names something else."""
    listed = event.details.get(DETAIL)
    for each in listed if isinstance(listed, list) else []:
        try:
            yield Evidence.model_validate(each)
        except ValidationError:
            return
