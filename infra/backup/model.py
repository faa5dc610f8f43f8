"""What is known of a backup."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.record.model import Hash, Utc, canonical

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[a-z0-9][a-z0-9-]*")


class BackupError(Exception):
    """There is no such backup, or it is not sound; the message says what is wrong with it."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


LARGEST_PART = 64 << 20
"""Octets of a part at most: each goes through the controller's memory."""


class Part(_Model):
    """A piece of the encrypted file; octets."""

    size: int = Field(gt=0, le=LARGEST_PART)
    sha256: Hash


class Table(_Model):
    """A table of the snapshot; `content` is a sum of hashes of its rows."""

    rows: int = Field(ge=0)
    content: str


class Proof(_Model):
    """The restore that proved it."""

    tables: int
    seconds: float


class Manifest(_Model):
    """A backup. Sizes in octets; `sha256` is of what is stored, `plain_sha256` of what was encrypted."""

    schema_version: Literal[1] = Field(1, alias="schema")
    id: str
    environment: str
    host: str
    taken_at: Utc
    seconds: float
    database: str
    database_size: int
    server_version: str
    revision: str | None
    """Revision of the schema, where migrations keep one."""
    format: str
    recipient: str
    tools: dict[str, str]
    tables: dict[str, Table]
    proof: Proof
    sha256: Hash
    size: int
    parts: tuple[Part, ...]
    plain_sha256: Hash
    plain_size: int

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_id(self.id)
        if sum(part.size for part in self.parts) != self.size:
            raise ValueError("the parts do not add up to the size")
        return self

    @classmethod
    def parse(cls, raw: Mapping[str, Any] | bytes) -> Self:
        """Check what was read; raises BackupError."""
        try:
            return cls.model_validate_json(raw) if isinstance(raw, bytes) else cls.model_validate(dict(raw))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise BackupError(f"not a backup's manifest: {wrong}") from None

    @classmethod
    def answered(cls, raw: Mapping[str, Any], **asked: str) -> Self:
        """Check what a host says of the backup that it has taken; `asked` names what it was told to take.

        Raises:
            BackupError: it is not a manifest, or that of another backup than the one that was asked for.
        """
        found = cls.parse(raw)
        for name, wanted in asked.items():
            if getattr(found, name) != wanted:
                raise BackupError(f"the host answers with a backup whose {name} is not {wanted}")
        return found

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    def encode(self) -> bytes:
        """Bytes of the stored object."""
        return canonical(self.model_dump(mode="json", by_alias=True))

    @property
    def digest(self) -> str:
        """SHA-256 of the stored object, which the event of the record holds."""
        return hashlib.sha256(self.encode()).hexdigest()

    def summary(self) -> dict[str, Any]:
        """What the event of the record says."""
        return {
            "id": self.id,
            "host": self.host,
            "database": self.database,
            "revision": self.revision,
            "size": self.size,
            "sha256": self.sha256,
            "manifest_sha256": self.digest,
            "tables": len(self.tables),
            "rows": self.rows,
            "proof": self.proof.model_dump(mode="json"),
        }


def check_id(name: str) -> str:
    """Return the name of a backup; ValueError for anything else."""
    if not _ID.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a backup, such as 20261120T020000Z-primary")
    return name


def backup_id(moment: datetime, host: str) -> str:
    """Name of a backup, newer ones greater."""
    return check_id(f"{moment:%Y%m%dT%H%M%SZ}-{host}")
