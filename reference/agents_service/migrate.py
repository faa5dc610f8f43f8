"""Migrations and the application role's grants, as one locked, repeatable step (DEP-4).

Each revision declares its `kind` and the revisions that it `ends`: an *expand* migration ends none, so that
the code of older releases goes on beside it; a *contract* migration takes away what only older code needs.
`schema_revisions` lists the revisions whose code the schema serves, by what the migrations declare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import URL
from sqlalchemy.engine import Connection

from .config import MigrationSettings
from .schema import REVISION

LOCK_KEY: Final = 0x1C09A  # one key for every slot and host that migrates the same database

GRANTS: Final = {
    "alembic_version": "SELECT",
    "schema_revisions": "SELECT",
    "customers": "SELECT, INSERT, UPDATE",
    "vouchers": "SELECT, INSERT, UPDATE",
    "idempotency_keys": "SELECT, INSERT",
    "agent_sessions": "SELECT, INSERT, UPDATE",
    "agent_spend": "SELECT, INSERT, UPDATE",
    "agent_events": "SELECT, INSERT",
    "whatsapp_message_ids": "SELECT, INSERT, UPDATE, DELETE",
}
"""What the application may do: it owns nothing and can't rewrite the events."""


class MigrationError(Exception):
    """The schema can't be brought to, or isn't at, the revision this release needs."""


class Kind(StrEnum):
    """What a migration does to the code of older releases."""

    EXPAND = "expand"
    CONTRACT = "contract"


@dataclass(frozen=True)
class Step:
    """One revision; `ends` are those whose code the schema serves no more after it."""

    revision: str
    kind: Kind
    ends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What `migrate` would do: `at` is where the schema is, `problem` why this release can't run on it."""

    needs: str
    at: str | None
    serves: tuple[str, ...]
    pending: tuple[Step, ...]
    problem: str = ""


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


def plan(settings: MigrationSettings) -> Plan:
    """Tell, without changing anything, what `migrate` would do."""
    with _owner_engine(settings).connect() as connection:
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        return _plan(connection)


def _plan(connection: Connection) -> Plan:
    known = steps()
    revisions = [step.revision for step in known]
    at = MigrationContext.configure(connection).get_current_revision()
    serves = tuple(sorted(_supported(connection)))
    if REVISION in serves:
        return Plan(REVISION, at, serves, ())
    if at is not None and at not in revisions:
        problem = (
            f"the schema is at revision {at}, which this release does not know, and serves"
            f" {', '.join(serves) or 'none'}; this release needs {REVISION}"
        )
        return Plan(REVISION, at, serves, (), problem)
    pending = tuple(known[revisions.index(at) + 1 :] if at else known)
    if REVISION not in [step.revision for step in pending]:
        problem = (
            f"this release needs schema revision {REVISION}, which none of its migrations"
            f" from {at or 'none'} on makes; the schema serves {', '.join(serves) or 'none'}"
        )
        return Plan(REVISION, at, serves, (), problem)
    return Plan(REVISION, at, serves, pending)


def _owner_engine(settings: MigrationSettings) -> sa.Engine:
    return sa.create_engine(
        settings.owner_url(),
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": settings.database_connect_timeout_seconds},
    )


def migrate(settings: MigrationSettings) -> str:
    """Upgrade to this release's head and grant the application its rights; return what was done.

    Any number of hosts may call it at once: they take turns by an advisory lock. A schema that is already
    newer than this release is left as it is.
    """
    owner, application = settings.owner_url(), settings.application_url()
    with _owner_engine(settings).begin() as connection:
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{settings.migration_lock_timeout_seconds}s'"))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        planned = _plan(connection)
        if planned.problem:
            raise MigrationError(planned.problem)
        if not planned.pending:
            done = f"schema serves revision {REVISION} already"
        else:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _declare(connection, planned.pending)
            done = f"schema migrated to revision {REVISION}"
        if owner.username != application.username:
            _grant(connection, application)
    return done


def check_schema(settings: MigrationSettings) -> str:
    """Check, as the application, that the schema serves this release's revision."""
    engine = sa.create_engine(
        settings.application_url(),
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": settings.database_connect_timeout_seconds},
    )
    with engine.connect() as connection:
        supported = _supported(connection)
    if REVISION not in supported:
        found = ", ".join(sorted(supported)) or "none"
        raise MigrationError(f"this release needs schema revision {REVISION}; the schema serves: {found}")
    return f"schema serves revision {REVISION}"


def _supported(connection: Connection) -> frozenset[str]:
    if connection.execute(sa.text("SELECT to_regclass('schema_revisions')")).scalar() is None:
        return frozenset()
    return frozenset(connection.execute(sa.text("SELECT revision FROM schema_revisions")).scalars())


def _declare(connection: Connection, done: Sequence[Step]) -> None:
    """List what the schema serves after these steps."""
    for step in done:
        added = "INSERT INTO schema_revisions (revision) VALUES (:revision) ON CONFLICT DO NOTHING"
        connection.execute(sa.text(added), {"revision": step.revision})
        for ended in step.ends:
            removed = "DELETE FROM schema_revisions WHERE revision = :revision"
            connection.execute(sa.text(removed), {"revision": ended})


def _grant(connection: Connection, application: URL) -> None:
    """Let the application role exist, with its present password, and hold exactly GRANTS on the tables."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection) or application.username is None:
        raise MigrationError("no connection to grant on")
    role, password = application.username, str(application.password or "")
    identifier = sql.Identifier(role)
    with raw.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(identifier))
        cursor.execute("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
        may_alter = cursor.fetchone()
        if password and may_alter and may_alter[0]:
            # Only the SCRAM verifier travels, so that the server's statement log never holds the password.
            verifier = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
            cursor.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(identifier, sql.Literal(verifier.decode()))
            )
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(identifier))
        for table, rights in GRANTS.items():
            name = sql.Identifier(table)
            cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(name, identifier))
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), name, identifier))
