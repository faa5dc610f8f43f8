"""Values of secrets for the files of a host; kept in this process's memory only (SEC-4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from infra.record import NotBootstrappedError, RecordConfig, RecordError, open_record
from infra.secrets import references
from infra.secretstore import SecretConfig, SecretStoreError, open_store

Resolve = Callable[[str], str]


class SecretsError(Exception):
    """Secrets can't be read; the message names them, never a value."""


def open_resolver(
    secretstore: SecretConfig | Mapping[str, Any],
    stack: str,
    record: RecordConfig | Mapping[str, Any],
    texts: Iterable[str],
) -> Resolve:
    """A function that resolves references; what `texts` need is read at once. Raises SecretsError.

    A secret that is being rotated has the value that hosts are to be given, by the record's journal.
    """
    try:
        names = sorted({name for text in texts for name in references.find(text)})
        values = _values(secretstore, stack, record, names) if names else {}
    except (SecretStoreError, RecordError, ValueError) as error:
        raise SecretsError(f"secrets of stack {stack}: {error}") from error

    def resolve(text: str) -> str:
        return references.resolve(text, values.__getitem__)

    return resolve


def _values(
    secretstore: SecretConfig | Mapping[str, Any],
    stack: str,
    record: RecordConfig | Mapping[str, Any],
    names: list[str],
) -> dict[str, str]:
    store = open_store(secretstore, stack, record=record)
    values, staged = store.get_many(names), store.staged(names)
    if not staged:
        return values
    try:
        rotations = open_record(record).state().rotations
    except NotBootstrappedError:
        return values
    given = {name: value for name, value in staged.items() if name in rotations}
    return values | {name: value for name, value in given.items() if rotations[name].hosts_get_new}
