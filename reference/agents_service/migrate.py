"""Migrations and the application role's grants, as one locked, repeatable step (DEP-4)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
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


def alembic_config() -> Config:
    """Return Alembic's configuration for the migrations inside this package."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str | None:
    """Return the newest revision among the migrations of this package."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def migrate(settings: MigrationSettings) -> str:
    """Upgrade to this release's head and grant the application its rights; return what was done.

    Any number of hosts may call it at once: they take turns by an advisory lock. A schema that is already
    newer than this release is left as it is.
    """
    owner, application = settings.owner_url(), settings.application_url()
    engine = sa.create_engine(
        owner,
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": settings.database_connect_timeout_seconds},
    )
    with engine.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{settings.migration_lock_timeout_seconds}s'"))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        before = _supported(connection)
        if REVISION in before:
            done = f"schema serves revision {REVISION} already"
        else:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
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
