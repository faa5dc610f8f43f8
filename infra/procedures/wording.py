"""What hosts and services said, as it may be kept: the record's log is for ever (SEC-4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.record import RecordError
from infra.secretstore import SecretStoreError, open_store
from infra.secretstore.redaction import Redact, redaction_of

LONGEST = 4000
"""Characters of a message in the log; all of it is on the operator's screen."""

_LEFT_OUT = "the words are left out: values of secrets could not be read, so they could not be taken out"


def redact_for(secretstore: Mapping[str, Any], stack: str, record: Mapping[str, Any]) -> Redact:
    """A function that takes values of secrets out of a text; all of it, where they can't be read."""
    try:
        return redaction_of(open_store(secretstore, stack, record=record))
    except (SecretStoreError, RecordError):
        return lambda text: _LEFT_OUT if text else ""


def kept(text: str, redact: Redact) -> str:
    """A message as the log keeps it. It is cut last: half a value would not be found."""
    said = redact(text)
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"


def redacted(value: Any, redact: Redact) -> Any:
    """The same document with every text redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redacted(entry, redact) for name, entry in value.items()}
    if isinstance(value, list):
        return [redacted(entry, redact) for entry in value]
    return value
