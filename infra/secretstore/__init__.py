"""The store that holds the values of secrets (SEC-4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError

from infra import paths
from infra.config import model
from infra.record import RecordConfig, Store
from infra.record import open_store as open_record_store
from infra.secretstore.errors import (
    IdentityError,
    MissingSecretError,
    SecretConfigError,
    SecretStoreError,
    TamperedError,
    ToolError,
    UnknownSecretError,
)
from infra.secretstore.store import Entry, SecretStore, SopsStore, Staged

__all__ = [
    "Entry",
    "IdentityError",
    "MissingSecretError",
    "SecretConfig",
    "SecretConfigError",
    "SecretStore",
    "SecretStoreError",
    "SopsStore",
    "Staged",
    "TamperedError",
    "ToolError",
    "UnknownSecretError",
    "open_store",
]


class SecretConfig(model.SecretStore):
    """Driver and its options as in the stack file, and the record whose store the values are in."""

    record: RecordConfig | None = None

    @classmethod
    def of(cls, stack: model.Stack) -> Self:
        """Where a stack's secrets are."""
        return cls(**stack.secretstore.model_dump(), record=stack.record)


def local_record(stack: str) -> RecordConfig:
    """Where the record of a local stack is."""
    return RecordConfig(url=(paths.stack_home(stack) / "record").as_uri())


def open_store(
    config: SecretConfig | Mapping[str, Any],
    stack: str,
    *,
    record: RecordConfig | Mapping[str, Any] | Store | None = None,
) -> SopsStore:
    """Open a stack's secret store; nothing is read yet.

    The encrypted file lies in the record's store: that of `record`, else of the configuration's own `record`,
    else the local directory of a local stack.

    Raises:
        SecretConfigError: the configuration is not usable.
    """
    try:
        checked = config if isinstance(config, SecretConfig) else SecretConfig.model_validate(dict(config))
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SecretConfigError(f"secretstore: {details}") from None
    where = record or checked.record
    if where is None:
        if not paths.is_local(stack):
            raise SecretConfigError(f"secretstore: stack {stack} needs the record that holds its secrets")
        where = local_record(stack)
    store = open_record_store(where) if isinstance(where, RecordConfig | Mapping) else where
    return SopsStore(store, stack, checked.recipients)
