"""The environment's record: what procedures change, in one versioned store (design, rules 2 and 4)."""

from infra.config.model import RecordConfig
from infra.record.config import open_store, parse_config
from infra.record.errors import (
    ConfigError,
    ConflictError,
    CorruptRecordError,
    LeaseHeldError,
    LeaseLostError,
    LeaseOverError,
    NotBootstrappedError,
    NotFoundError,
    RecordError,
    StoreError,
    StoreUnavailableError,
)
from infra.record.evidence import Evidence
from infra.record.lease import Lease
from infra.record.log import Problem, Verification
from infra.record.model import (
    Event,
    HostState,
    Maintenance,
    Release,
    Result,
    Rotation,
    RotationPhase,
    State,
    Switch,
    Window,
)
from infra.record.record import Record, open_record
from infra.record.store import Store, Stored
from infra.services.model import Slot

__all__ = [
    "ConfigError",
    "ConflictError",
    "CorruptRecordError",
    "Event",
    "Evidence",
    "HostState",
    "Lease",
    "LeaseHeldError",
    "LeaseLostError",
    "LeaseOverError",
    "Maintenance",
    "NotBootstrappedError",
    "NotFoundError",
    "Problem",
    "Record",
    "RecordConfig",
    "RecordError",
    "Release",
    "Result",
    "Rotation",
    "RotationPhase",
    "Slot",
    "State",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "Stored",
    "Switch",
    "Verification",
    "Window",
    "open_record",
    "open_store",
    "parse_config",
]
