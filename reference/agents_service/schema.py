"""The tables as this release knows them.

The migrations in `migrations/versions` are what makes them; they never import this module.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = sa.MetaData()


def _id() -> sa.Column[uuid.UUID]:
    return sa.Column("id", UUID(as_uuid=True), primary_key=True, server_default=sa.text("gen_random_uuid()"))


schema_revisions = sa.Table(
    "schema_revisions",
    metadata,
    sa.Column("revision", sa.Text, primary_key=True),
    sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
)

customers = sa.Table(
    "customers",
    metadata,
    _id(),
    sa.Column("msisdn", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

vouchers = sa.Table(
    "vouchers",
    metadata,
    _id(),
    sa.Column("policy_number", sa.Text, nullable=False),
    sa.Column("customer_id", UUID(as_uuid=True), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("issued_by", sa.Text, nullable=False),
    sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("redeemed_at", sa.DateTime(timezone=True)),
    sa.Column("voided_at", sa.DateTime(timezone=True)),
    sa.Column("void_reason", sa.Text),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("request_hash", sa.Text, nullable=False),
    sa.Column("voucher_id", UUID(as_uuid=True), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

agent_sessions = sa.Table(
    "agent_sessions",
    metadata,
    _id(),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("tenant_group", sa.Text, nullable=False),
    sa.Column("last_response_id", sa.Text),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

agent_spend = sa.Table(
    "agent_spend",
    metadata,
    _id(),
    sa.Column("session_id", UUID(as_uuid=True), nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("reserved_usd", sa.Numeric(12, 6), nullable=False),
    sa.Column("actual_usd", sa.Numeric(12, 6)),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("settled_at", sa.DateTime(timezone=True)),
)

agent_events = sa.Table(
    "agent_events",
    metadata,
    _id(),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("session_id", UUID(as_uuid=True)),
    sa.Column("subject", sa.Text),
    sa.Column("correlation_id", sa.Text),
    sa.Column("details", JSONB, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

whatsapp_message_ids = sa.Table(
    "whatsapp_message_ids",
    metadata,
    sa.Column("message_id", sa.Text, primary_key=True),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
)
