"""Migrations and the application role's grants, as one locked, repeatable step (DEP-4).

Each revision declares its `kind` and the revisions that it `ends`: an *expand* migration ends none, so that
the code of older releases goes on beside it; a *contract* migration takes away what only older code needs.
`schema_revisions` lists the revisions whose code the schema serves, by what the migrations declare.

Most deploys find a schema that serves them already. To see that, and to grant, a plain connection is enough;
`upgrade`, with Alembic and SQLAlchemy, is imported only where there is more to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql

from .config import Connection, MigrationSettings
from .errors import CommandError
from .revision import REVISION

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


Database: TypeAlias = psycopg.Connection[tuple[Any, ...]]


class MigrationError(CommandError):
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


@dataclass(frozen=True)
class Standing:
    """Where a schema is, and the revisions whose code it serves."""

    at: str | None
    serves: tuple[str, ...]


def plan(settings: MigrationSettings) -> Plan:
    """Tell, without changing anything, what `migrate` would do."""
    with _connected(settings.owner(), settings) as database:
        database.execute("SET TRANSACTION READ ONLY")
        found = standing(database)
    if REVISION in found.serves:
        return Plan(REVISION, found.at, found.serves, ())
    from .upgrade import foreseen  # noqa: PLC0415 - see above

    return foreseen(found, REVISION)


def migrate(settings: MigrationSettings) -> str:
    """Upgrade to this release's head and grant the application its rights; return what was done.

    Any number of hosts may call it at once: they take turns by an advisory lock. A schema that is already
    newer than this release is left as it is.
    """
    with _connected(settings.owner(), settings) as database:
        take_turn(database, settings)
        if REVISION in standing(database).serves:
            grant(database, settings)
            return f"schema serves revision {REVISION} already"
    from .upgrade import upgrade  # noqa: PLC0415 - see above

    return upgrade(settings, REVISION)


def check_schema(settings: MigrationSettings) -> str:
    """Check, as the application, that the schema serves this release's revision."""
    with _connected(settings.application(), settings) as database:
        serves = _served(database)
    if REVISION not in serves:
        found = ", ".join(serves) or "none"
        raise MigrationError(f"this release needs schema revision {REVISION}; the schema serves: {found}")
    return f"schema serves revision {REVISION}"


@contextmanager
def _connected(to: Connection, settings: MigrationSettings) -> Iterator[Database]:
    """One transaction, committed at the end."""
    known: dict[str, Any] = {
        "host": to.host,
        "port": to.port,
        "dbname": to.database,
        "user": to.user,
        "password": to.password,
        "connect_timeout": settings.database_connect_timeout_seconds,
    }
    with told(), psycopg.connect(**{**known, **to.options}) as database:
        yield database


@contextmanager
def told() -> Iterator[None]:
    """Turn what the database refuses into a message, without the statement, which may hold values."""
    try:
        yield
    except psycopg.Error as error:
        raise MigrationError(f"database: {error.diag.message_primary or str(error).strip()}") from error


def take_turn(database: Database, settings: MigrationSettings) -> None:
    """Wait until nobody else migrates, and keep others waiting until the transaction ends."""
    patience = sql.Literal(f"{settings.migration_lock_timeout_seconds}s")
    database.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(patience))
    database.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))


def standing(database: Database) -> Standing:
    """Return where the schema is."""
    at = None
    if _exists(database, "alembic_version"):
        row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        at = row[0] if row else None
    return Standing(at, _served(database))


def _served(database: Database) -> tuple[str, ...]:
    if not _exists(database, "schema_revisions"):
        return ()
    return tuple(sorted(row[0] for row in database.execute("SELECT revision FROM schema_revisions")))


def _exists(database: Database, table: str) -> bool:
    row = database.execute("SELECT to_regclass(%s)", (table,)).fetchone()
    return row is not None and row[0] is not None


def grant(database: Database, settings: MigrationSettings) -> None:
    """Let the application role exist, with its present password, and hold exactly GRANTS on the tables.

    Where nobody else owns the schema, it needs none.
    """
    application = settings.application()
    role, password = application.user, application.password
    if role is None or role == settings.owner().user:
        return
    identifier = sql.Identifier(role)
    with database.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(identifier))
        cursor.execute("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
        may_alter = cursor.fetchone()
        if password and may_alter and may_alter[0]:
            # Only the SCRAM verifier travels, so that the server's statement log never holds the password.
            verifier = database.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
            cursor.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(identifier, sql.Literal(verifier.decode()))
            )
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(identifier))
        for table, rights in GRANTS.items():
            name = sql.Identifier(table)
            cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(name, identifier))
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), name, identifier))
