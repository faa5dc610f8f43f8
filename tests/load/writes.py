"""What became of a run's writes in PostgreSQL: every acknowledged one is there, and none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from infra.services import names
from tests.load.kinds import customer, write_key
from tests.otlp import MachineTelemetry, active_machine

_QUERY = """
SELECT 'message', details->>'message_id', count(*) FROM agent_events
 WHERE kind = 'whatsapp' AND details->>'message_id' LIKE '{keys}' GROUP BY 2
UNION ALL
SELECT 'key', key, 1 FROM idempotency_keys WHERE key LIKE '{keys}'
UNION ALL
SELECT 'vouchers', '', count(*) FROM vouchers JOIN customers ON customers.id = vouchers.customer_id
 WHERE msisdn = '{customer}'
"""
"""How often each message is there, the idempotency keys, and how many vouchers the run's customer has."""


@dataclass(frozen=True)
class Written:
    """What is there of a run: writes, acknowledged ones that are missing, and how many are there again."""

    found: int
    missing: tuple[str, ...]
    repeated: int


def judge(rows: Iterable[str], acknowledged: Iterable[str]) -> Written:
    """Compare rows of the query, `what|key|times`, with what was acknowledged."""
    stored: Counter[str] = Counter()
    keys = vouchers = 0
    for row in rows:
        what, key, times = row.split("|")
        if what == "vouchers":
            vouchers = int(times)
        else:
            stored[key] += int(times)
            keys += what == "key"
    missing = tuple(key for key in acknowledged if not stored[key])
    again = sum(times - 1 for times in stored.values()) + max(0, vouchers - keys)
    return Written(stored.total(), missing, again)


def written(run: str, acknowledged: Iterable[str]) -> Written:
    """Look into the database of the machine that serves the public name."""
    machine = MachineTelemetry(active_machine())
    query = _QUERY.format(keys=write_key(run, "%"), customer=customer(run))
    client = ["psql", "-U", "postgres", "-d", names.DATABASE, "-AtF", "|", "-c", query]
    rows = machine.on_machine("docker", "exec", machine.container(names.POSTGRES), *client)
    return judge(rows.splitlines(), acknowledged)
