"""What can go wrong with the secret store; no message ever holds a value."""

from __future__ import annotations


class SecretStoreError(Exception):
    """Base of all errors of the secret store."""


class UnknownSecretError(SecretStoreError):
    """The name is not in the catalogue."""


class MissingSecretError(SecretStoreError):
    """The secret is in the catalogue but has no value in the store."""


class IdentityError(SecretStoreError):
    """There is no age identity, or it is not one of the store's recipients."""


class TamperedError(SecretStoreError):
    """The encrypted file was changed by something else than SOPS."""


class ToolError(SecretStoreError):
    """`sops` is missing or failed for another reason."""


class SecretConfigError(SecretStoreError):
    """The configuration of the store is not usable, or the command does not fit this stack."""
