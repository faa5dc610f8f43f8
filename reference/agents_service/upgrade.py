"""Migrations that a schema still needs, by Alembic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from .config import MigrationSettings
from .database import url
from .migrate import (
    Database,
    Kind,
    MigrationError,
    Plan,
    Standing,
    Step,
    grant,
    standing,
    take_turn,
    told,
)


def alembic_config() -> Config:
    """Return Alembic's configuration for the migrations inside this package."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str | None:
    """Return the newest revision among the migrations of this package."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def steps() -> list[Step]:
    """Return the migrations of this package, oldest first; each must say what it does to older releases."""
    scripts = reversed(list(ScriptDirectory.from_config(alembic_config()).walk_revisions()))
    return [
        _step(script.revision, getattr(script.module, "kind", None), getattr(script.module, "ends", ()))
        for script in scripts
    ]


def _step(revision: str, kind: object, ends: Sequence[str]) -> Step:
    if kind not in list(Kind):
        raise MigrationError(f"revision {revision} declares kind {kind!r}; accepted: {', '.join(Kind)}")
    step = Step(revision, Kind(str(kind)), tuple(ends))
    if bool(step.ends) != (step.kind is Kind.CONTRACT):
        raise MigrationError(
            f"revision {revision}: contract migrations, and only those, declare what they end"
        )
    return step


def foreseen(found: Standing, needed: str) -> Plan:
    """What `upgrade` would do to the schema for a release that needs a revision."""
    known = steps()
    revisions = [step.revision for step in known]
    at, serves = found.at, found.serves
    if needed in serves:
        return Plan(needed, at, serves, ())
    if at is not None and at not in revisions:
        problem = (
            f"the schema is at revision {at}, which this release does not know, and serves"
            f" {', '.join(serves) or 'none'}; this release needs {needed}"
        )
        return Plan(needed, at, serves, (), problem)
    pending = tuple(known[revisions.index(at) + 1 :] if at else known)
    if needed not in [step.revision for step in pending]:
        problem = (
            f"this release needs schema revision {needed}, which none of its migrations"
            f" from {at or 'none'} on makes; the schema serves {', '.join(serves) or 'none'}"
        )
        return Plan(needed, at, serves, (), problem)
    return Plan(needed, at, serves, pending)


def upgrade(settings: MigrationSettings, needed: str) -> str:
    """Take the steps that are foreseen once it is this process's turn; grant; return what was done."""
    engine = sa.create_engine(
        url(settings.owner()),
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": settings.database_connect_timeout_seconds},
    )
    try:
        with told(), engine.begin() as connection:
            database = cast(Database, connection.connection.driver_connection)
            take_turn(database, settings)
            planned = foreseen(standing(database), needed)
            if planned.problem:
                raise MigrationError(planned.problem)
            if planned.pending:
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                _declare(database, planned.pending)
            grant(database, settings)
    except DBAPIError as error:
        # str(error) of SQLAlchemy shows statements with their parameters.
        raise MigrationError(f"database: {str(error.orig).strip()}") from error
    if planned.pending:
        return f"schema migrated to revision {needed}"
    return f"schema serves revision {needed} already"


def _declare(database: Database, done: Sequence[Step]) -> None:
    """List what the schema serves after these steps."""
    for step in done:
        added = "INSERT INTO schema_revisions (revision) VALUES (%s) ON CONFLICT DO NOTHING"
        database.execute(added, (step.revision,))
        for ended in step.ends:
            database.execute("DELETE FROM schema_revisions WHERE revision = %s", (ended,))
