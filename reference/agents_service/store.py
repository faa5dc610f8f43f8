"""What the service keeps in PostgreSQL. A method that returns has committed: its effect is durable."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from . import schema
from .errors import ApiError, DailyBudgetExceededError, SessionBudgetExceededError

DAY: Final = timedelta(hours=24)
MESSAGE_ID_LIFETIME: Final = timedelta(hours=1)
ACTIVE_WINDOW: Final = timedelta(minutes=15)
_BUDGET_LOCK: Final = 0x1C0B5


@dataclass(frozen=True)
class Customer:
    """A diner, known by phone number (E.164)."""

    id: uuid.UUID
    msisdn: str
    name: str | None
    created_at: datetime


@dataclass(frozen=True)
class Voucher:
    """A voucher; `policy_number` starts with AI- (003)."""

    id: uuid.UUID
    policy_number: str
    customer_id: uuid.UUID
    amount: int
    currency: str
    status: str
    issued_at: datetime
    created_at: datetime


@dataclass(frozen=True)
class AgentSession:
    """A conversation of one caller."""

    id: uuid.UUID
    subject: str
    tenant_group: str
    last_response_id: str | None


@dataclass(frozen=True)
class Spend:
    """USD spent or reserved: by the session ever, by everybody in the last 24 hours."""

    session: Decimal
    daily: Decimal


@dataclass(frozen=True)
class Event:
    """A row of agent_events; guardrail breaches have kind `guardrail`."""

    event: str
    kind: str
    details: Mapping[str, Any]
    session_id: uuid.UUID | None = None
    subject: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True)
class Usage:
    """What one model call cost."""

    model: str
    input_tokens: int
    output_tokens: int
    usd: Decimal


class Store(Protocol):
    """The boundary that tests replace."""

    async def supported_revisions(self) -> frozenset[str]:
        """Return the schema revisions whose code the database serves."""

    async def create_session(self, subject: str, tenant_group: str) -> AgentSession:
        """Create a session."""

    async def get_session(self, session_id: uuid.UUID, subject: str) -> AgentSession | None:
        """Return the session if it is the caller's own."""

    async def set_last_response(self, session_id: uuid.UUID, response_id: str) -> None:
        """Remember where the conversation stands at the model API."""

    async def spend(self, session_id: uuid.UUID) -> Spend:
        """Return what is spent and reserved."""

    async def reserve(
        self, session: AgentSession, usd: Decimal, *, session_budget: Decimal, daily_budget: Decimal
    ) -> uuid.UUID:
        """Reserve `usd` of both budgets, or raise the budget's error. Safe under concurrency."""

    async def settle(self, reservation: uuid.UUID, usage: Usage) -> None:
        """Replace a reservation by what was really spent."""

    async def release(self, reservation: uuid.UUID) -> None:
        """Give a reservation back: nothing was spent."""

    async def activity(self) -> tuple[Decimal, int]:
        """Return (USD of the last 24 hours, callers of the last 15 minutes)."""

    async def find_customer(self, msisdn: str) -> Customer | None:
        """Return the customer with that number."""

    async def create_voucher(
        self,
        *,
        msisdn: str,
        amount: int,
        currency: str,
        issued_by: str,
        idempotency: tuple[str, str] | None,
    ) -> tuple[Voucher, bool]:
        """Issue a voucher; `idempotency` is (key, hash of the request). Return it and whether it is new."""

    async def find_voucher(self, policy_number: str) -> Voucher | None:
        """Return a voucher."""

    async def close_voucher(self, policy_number: str, status: str, reason: str | None) -> Voucher | None:
        """Redeem or void an issued voucher; None where it isn't there, ApiError where it is closed."""

    async def accept_message(self, message_id: str, event: Event) -> bool:
        """Remember a message id for an hour and record its event; False where the id is remembered."""

    async def add_event(self, event: Event) -> None:
        """Append to agent_events."""


def new_policy_number() -> str:
    """Return an unguessable voucher number."""
    return f"AI-{secrets.token_hex(6).upper()}"


class PostgresStore:
    """The store in PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def supported_revisions(self) -> frozenset[str]:
        """See Store."""
        async with self._engine.connect() as connection:
            if (await connection.execute(sa.text("SELECT to_regclass('schema_revisions')"))).scalar() is None:
                return frozenset()
            rows = await connection.execute(sa.select(schema.schema_revisions.c.revision))
            return frozenset(rows.scalars())

    async def create_session(self, subject: str, tenant_group: str) -> AgentSession:
        """See Store."""
        table = schema.agent_sessions
        async with self._engine.begin() as connection:
            row = await connection.execute(
                insert(table).values(subject=subject, tenant_group=tenant_group).returning(table.c.id)
            )
            return AgentSession(row.scalar_one(), subject, tenant_group, None)

    async def get_session(self, session_id: uuid.UUID, subject: str) -> AgentSession | None:
        """See Store."""
        table = schema.agent_sessions
        query = sa.select(table).where(table.c.id == session_id, table.c.subject == subject)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        return AgentSession(row.id, row.subject, row.tenant_group, row.last_response_id) if row else None

    async def set_last_response(self, session_id: uuid.UUID, response_id: str) -> None:
        """See Store."""
        table = schema.agent_sessions
        async with self._engine.begin() as connection:
            await connection.execute(
                sa.update(table).where(table.c.id == session_id).values(last_response_id=response_id)
            )

    async def spend(self, session_id: uuid.UUID) -> Spend:
        """See Store."""
        async with self._engine.connect() as connection:
            return await _spend(connection, session_id)

    async def reserve(
        self, session: AgentSession, usd: Decimal, *, session_budget: Decimal, daily_budget: Decimal
    ) -> uuid.UUID:
        """See Store. One reservation at a time: sums of concurrent ones would not see each other."""
        table = schema.agent_spend
        async with self._engine.begin() as connection:
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _BUDGET_LOCK})
            spent = await _spend(connection, session.id)
            if spent.session + usd > session_budget:
                raise SessionBudgetExceededError
            if spent.daily + usd > daily_budget:
                raise DailyBudgetExceededError
            row = await connection.execute(
                insert(table)
                .values(session_id=session.id, subject=session.subject, reserved_usd=usd)
                .returning(table.c.id)
            )
            reservation: uuid.UUID = row.scalar_one()
            return reservation

    async def settle(self, reservation: uuid.UUID, usage: Usage) -> None:
        """See Store."""
        table = schema.agent_spend
        async with self._engine.begin() as connection:
            await connection.execute(
                sa.update(table)
                .where(table.c.id == reservation)
                .values(
                    model=usage.model,
                    actual_usd=usage.usd,
                    input_tokens=usage.input_tokens,
                    output_tokens=usage.output_tokens,
                    settled_at=sa.func.now(),
                )
            )

    async def release(self, reservation: uuid.UUID) -> None:
        """See Store."""
        table = schema.agent_spend
        async with self._engine.begin() as connection:
            await connection.execute(
                sa.update(table)
                .where(table.c.id == reservation)
                .values(actual_usd=Decimal(0), settled_at=sa.func.now())
            )

    async def activity(self) -> tuple[Decimal, int]:
        """See Store."""
        table = schema.agent_spend
        recent = table.c.created_at > sa.func.now() - ACTIVE_WINDOW
        query = sa.select(
            sa.func.coalesce(sa.func.sum(_charged()), 0),
            sa.func.count(sa.distinct(table.c.subject)).filter(recent),
        ).where(table.c.created_at > sa.func.now() - DAY)
        async with self._engine.connect() as connection:
            spent, users = (await connection.execute(query)).one()
        return Decimal(spent), int(users)

    async def find_customer(self, msisdn: str) -> Customer | None:
        """See Store."""
        query = sa.select(schema.customers).where(schema.customers.c.msisdn == msisdn)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        return Customer(row.id, row.msisdn, row.name, row.created_at) if row else None

    async def create_voucher(
        self,
        *,
        msisdn: str,
        amount: int,
        currency: str,
        issued_by: str,
        idempotency: tuple[str, str] | None,
    ) -> tuple[Voucher, bool]:
        """See Store. A concurrent request with the same key waits on the key's row and gets this voucher."""
        voucher_id = uuid.uuid4()
        async with self._engine.begin() as connection:
            if idempotency is not None:
                earlier = await _claim_key(connection, issued_by, *idempotency, voucher_id)
                if earlier is not None:
                    return earlier, False
            customers, vouchers = schema.customers, schema.vouchers
            await connection.execute(
                insert(customers).values(msisdn=msisdn).on_conflict_do_nothing(index_elements=["msisdn"])
            )
            customer = await connection.execute(sa.select(customers.c.id).where(customers.c.msisdn == msisdn))
            row = await connection.execute(
                insert(vouchers)
                .values(
                    id=voucher_id,
                    policy_number=new_policy_number(),
                    customer_id=customer.scalar_one(),
                    amount=amount,
                    currency=currency,
                    status="issued",
                    issued_by=issued_by,
                )
                .returning(vouchers)
            )
            return _voucher(row.one()), True

    async def find_voucher(self, policy_number: str) -> Voucher | None:
        """See Store."""
        query = sa.select(schema.vouchers).where(schema.vouchers.c.policy_number == policy_number)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        return _voucher(row) if row else None

    async def close_voucher(self, policy_number: str, status: str, reason: str | None) -> Voucher | None:
        """See Store. The condition on the status makes one of two concurrent calls lose."""
        table = schema.vouchers
        stamp = {"redeemed": "redeemed_at", "voided": "voided_at"}[status]
        async with self._engine.begin() as connection:
            row = (
                await connection.execute(
                    sa.update(table)
                    .where(table.c.policy_number == policy_number, table.c.status == "issued")
                    .values({"status": status, stamp: sa.func.now(), "void_reason": reason})
                    .returning(table)
                )
            ).one_or_none()
            if row is not None:
                return _voucher(row)
            current = await connection.execute(
                sa.select(table.c.status).where(table.c.policy_number == policy_number)
            )
            found = current.scalar_one_or_none()
        if found is None:
            return None
        raise ApiError(409, f"voucher_{found}", f"the voucher is {found} already")

    async def accept_message(self, message_id: str, event: Event) -> bool:
        """See Store."""
        table = schema.whatsapp_message_ids
        stale = sa.func.now() - MESSAGE_ID_LIFETIME
        statement = insert(table).values(message_id=message_id)
        async with self._engine.begin() as connection:
            claimed = await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["message_id"],
                    set_={"seen_at": sa.func.now()},
                    where=table.c.seen_at <= stale,
                ).returning(table.c.message_id)
            )
            if claimed.one_or_none() is None:
                return False
            await connection.execute(insert(schema.agent_events).values(_event_row(event)))
            await connection.execute(sa.delete(table).where(table.c.seen_at <= stale))
        return True

    async def add_event(self, event: Event) -> None:
        """See Store."""
        async with self._engine.begin() as connection:
            await connection.execute(insert(schema.agent_events).values(_event_row(event)))


def _charged() -> sa.ColumnElement[Decimal]:
    """Return what a row counts for: a reservation that was never settled stays charged in full."""
    return sa.func.coalesce(schema.agent_spend.c.actual_usd, schema.agent_spend.c.reserved_usd)


async def _spend(connection: AsyncConnection, session_id: uuid.UUID) -> Spend:
    table = schema.agent_spend
    total = sa.func.coalesce(sa.func.sum(_charged()), 0)
    session = await connection.execute(sa.select(total).where(table.c.session_id == session_id))
    daily = await connection.execute(sa.select(total).where(table.c.created_at > sa.func.now() - DAY))
    return Spend(Decimal(session.scalar_one()), Decimal(daily.scalar_one()))


async def _claim_key(
    connection: AsyncConnection, subject: str, key: str, request_hash: str, voucher_id: uuid.UUID
) -> Voucher | None:
    """Claim an idempotency key for `voucher_id`, or return the voucher that it made before."""
    keys, vouchers = schema.idempotency_keys, schema.vouchers
    claimed = await connection.execute(
        insert(keys)
        .values(subject=subject, key=key, request_hash=request_hash, voucher_id=voucher_id)
        .on_conflict_do_nothing()
        .returning(keys.c.key)
    )
    if claimed.one_or_none() is not None:
        return None
    row = (
        await connection.execute(
            sa.select(vouchers, keys.c.request_hash)
            .join(keys, keys.c.voucher_id == vouchers.c.id)
            .where(keys.c.subject == subject, keys.c.key == key)
        )
    ).one()
    if row.request_hash != request_hash:
        raise ApiError(422, "idempotency_key_reused", "this Idempotency-Key came with another request before")
    return _voucher(row)


def _voucher(row: sa.Row[Any]) -> Voucher:
    return Voucher(
        row.id,
        row.policy_number,
        row.customer_id,
        row.amount,
        row.currency,
        row.status,
        row.issued_at,
        row.created_at,
    )


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "event": event.event,
        "kind": event.kind,
        "details": dict(event.details),
        "session_id": event.session_id,
        "subject": event.subject,
        "correlation_id": event.correlation_id,
    }
