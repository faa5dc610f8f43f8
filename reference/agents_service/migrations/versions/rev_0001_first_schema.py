"""First schema.

`schema_revisions` lists the revisions whose code the schema still serves: `migrate` adds each one that it
applies, and takes away those that a contract migration ends. A release is ready while its own revision is
listed, so an older release keeps serving next to a newer schema.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
kind = "expand"
ends = ()


def upgrade() -> None:
    """Create everything."""
    op.execute(
        """
        CREATE TABLE schema_revisions (
            revision text PRIMARY KEY,
            applied_at timestamptz NOT NULL DEFAULT now()
        );

        CREATE TABLE customers (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            msisdn text NOT NULL UNIQUE,
            name text,
            created_at timestamptz NOT NULL DEFAULT now()
        );

        CREATE TABLE vouchers (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            policy_number text NOT NULL UNIQUE,
            customer_id uuid NOT NULL REFERENCES customers (id),
            amount bigint NOT NULL CHECK (amount > 0),
            currency text NOT NULL,
            status text NOT NULL CHECK (status IN ('issued', 'redeemed', 'voided')),
            issued_by text NOT NULL,
            issued_at timestamptz NOT NULL DEFAULT now(),
            created_at timestamptz NOT NULL DEFAULT now(),
            redeemed_at timestamptz,
            voided_at timestamptz,
            void_reason text
        );
        CREATE INDEX vouchers_customer_id ON vouchers (customer_id);
        CREATE INDEX vouchers_created_at ON vouchers (created_at);

        CREATE TABLE idempotency_keys (
            subject text NOT NULL,
            key text NOT NULL,
            request_hash text NOT NULL,
            voucher_id uuid NOT NULL REFERENCES vouchers (id) DEFERRABLE INITIALLY DEFERRED,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (subject, key)
        );

        CREATE TABLE agent_sessions (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            subject text NOT NULL,
            tenant_group text NOT NULL,
            last_response_id text,
            created_at timestamptz NOT NULL DEFAULT now()
        );

        CREATE TABLE agent_spend (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            session_id uuid NOT NULL REFERENCES agent_sessions (id),
            subject text NOT NULL,
            model text,
            reserved_usd numeric(12, 6) NOT NULL CHECK (reserved_usd >= 0),
            actual_usd numeric(12, 6) CHECK (actual_usd >= 0),
            input_tokens bigint,
            output_tokens bigint,
            created_at timestamptz NOT NULL DEFAULT now(),
            settled_at timestamptz
        );
        CREATE INDEX agent_spend_created_at ON agent_spend (created_at);
        CREATE INDEX agent_spend_session_id ON agent_spend (session_id);

        CREATE TABLE agent_events (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            event text NOT NULL,
            kind text NOT NULL,
            session_id uuid,
            subject text,
            correlation_id text,
            details jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX agent_events_kind_created_at ON agent_events (kind, created_at);

        CREATE TABLE whatsapp_message_ids (
            message_id text PRIMARY KEY,
            seen_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX whatsapp_message_ids_seen_at ON whatsapp_message_ids (seen_at);

        INSERT INTO schema_revisions (revision) VALUES ('0001');
        """
    )


def downgrade() -> None:
    """Refuse: rolling back a release never rolls back its schema."""
    raise NotImplementedError("migrations are expand-only: roll back the release, not the schema")
