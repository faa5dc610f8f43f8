"""What can go wrong with a record; every message names the store and what to do, none holds a credential."""

from __future__ import annotations


class RecordError(Exception):
    """Base of all errors of the environment's record."""


class StoreError(RecordError):
    """Base of the errors of a store."""


class ConflictError(StoreError):
    """A conditional write lost: the object exists already, or is no longer the version that was read."""


class NotFoundError(StoreError):
    """The object is not in the store."""


class StoreUnavailableError(StoreError):
    """The store can't be reached, refuses the credentials or answered with an error."""


class ConfigError(RecordError):
    """The record's configuration is not usable."""


class NotBootstrappedError(RecordError):
    """The record is empty: the first site play bootstraps it."""


class CorruptRecordError(RecordError):
    """An object of the record can't be read as what it must be."""


class LeaseHeldError(RecordError):
    """Somebody else holds the lease (DEP-7); the message names the holder and how to take it."""


class LeaseOverError(LeaseHeldError):
    """An operation ended without giving its lease back; naming its owner helps, waiting does not."""


class LeaseLostError(RecordError):
    """The lease was taken by another operation, or could not be renewed in time; writes are refused."""
