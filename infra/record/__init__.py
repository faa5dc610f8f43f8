"""The environment's record: what procedures change, in one versioned store (design, rules 2 and 4)."""

from infra.record.config import RecordConfig, open_store, parse_config
from infra.record.errors import (
    ConfigError,
    ConflictError,
    CorruptRecordError,
    LeaseHeldError,
    LeaseLostError,
    NotBootstrappedError,
    NotFoundError,
    RecordError,
    StoreError,
    StoreUnavailableError,
)
from infra.record.store import Store, Stored

__all__ = [
    "ConfigError",
    "ConflictError",
    "CorruptRecordError",
    "LeaseHeldError",
    "LeaseLostError",
    "NotBootstrappedError",
    "NotFoundError",
    "RecordConfig",
    "RecordError",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "Stored",
    "open_store",
    "parse_config",
]
