"""Backups of an environment's database, off its hosts: what and where they are, and whether sound (DB-2)."""

from infra.backup.model import BackupError, Manifest, backup_id
from infra.backup.store import Problem, check, drop_unfinished, listed, load, prune, put_part, save

__all__ = [
    "BackupError",
    "Manifest",
    "Problem",
    "backup_id",
    "check",
    "drop_unfinished",
    "listed",
    "load",
    "prune",
    "put_part",
    "save",
]
