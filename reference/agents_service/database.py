"""SQLAlchemy's connection pool, with timeouts that survive a failover of PostgreSQL."""

from __future__ import annotations

from typing import cast

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from .config import Connection, DatabaseSettings
from .metrics import Metrics


def url(connection: Connection) -> URL:
    """Return the same for SQLAlchemy's psycopg driver."""
    return URL.create(
        "postgresql+psycopg",
        username=connection.user,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.database,
        query=connection.options,
    )


def create_engine(settings: DatabaseSettings) -> AsyncEngine:
    """Return an engine that notices a dead or demoted server within seconds.

    A frozen primary still answers keepalives, hence tcp_user_timeout; a demoted one accepts connections,
    hence target_session_attrs.
    """
    return create_async_engine(
        url(settings.application()),
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,  # errors are logged, and parameters hold phone numbers
        connect_args={
            "connect_timeout": settings.database_connect_timeout_seconds,
            "tcp_user_timeout": 5000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "target_session_attrs": "read-write",
            "application_name": "agents-service",
            "options": "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=30000",
        },
    )


def observe_pool(engine: AsyncEngine, metrics: Metrics) -> None:
    """Show the pool's size and use as metrics (004: `db_pool`)."""
    pool = cast(QueuePool, engine.sync_engine.pool)
    metrics.on_scrape(metrics.pool, pool.size, "size")
    metrics.on_scrape(metrics.pool, pool.checkedout, "in_use")
    metrics.on_scrape(metrics.pool, pool.checkedin, "idle")
