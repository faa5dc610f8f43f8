"""What is sent and when: a fixed schedule, known before the first request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Kind(StrEnum):
    """Kinds of requests."""

    WHOAMI = "whoami"
    """GET that needs login and token check."""
    HEALTH = "health"
    """GET that tells which release answers."""
    WEBHOOK = "webhook"
    """POST, a signed message: one write, known by its message id."""
    VOUCHER = "voucher"
    """POST, a voucher: one write, known by its Idempotency-Key."""
    STREAM = "stream"
    """POST whose answer is server-sent events for `Plan.stream_seconds`."""


WRITES = frozenset({Kind.WEBHOOK, Kind.VOUCHER})
MIX: Mapping[Kind, int] = {
    Kind.WHOAMI: 48,
    Kind.HEALTH: 12,
    Kind.WEBHOOK: 38,
    Kind.VOUCHER: 1,
    Kind.STREAM: 1,
}
"""Of a hundred requests. Streams and vouchers stay below the service's limit per caller and minute."""

Weight = Annotated[int, Field(ge=0, le=1000)]


class Plan(BaseModel):
    """Rate in requests/s, length in seconds, shares of 1; `seconds` is the most that a run ever takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: Annotated[float, Field(gt=0, le=1000)] = 102.0
    seconds: Annotated[float, Field(gt=0, le=7200)] = 60.0
    mix: dict[Kind, Weight] = Field(default_factory=lambda: dict(MIX))
    fresh: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of requests with a connection of their own, without TLS resumption; others use kept ones."""
    kept_connections: Annotated[int, Field(ge=1, le=500)] = 20
    """Connections that each client keeps; used in turn."""
    clients: Annotated[int, Field(ge=1, le=100)] = 1
    """Each has its own memory of names and its own connections."""
    timeout: Annotated[float, Field(gt=0, le=120)] = 15.0
    """Seconds that a request may take."""
    stream_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """Seconds that a stream takes, in addition to its timeout."""

    @property
    def cycle(self) -> list[Kind]:
        """One turn through the mix, each kind spread evenly; ValueError where nothing has a weight."""
        total = sum(self.mix.values())
        if total == 0:
            raise ValueError("mix: no kind has a weight; at least one must be above 0")
        credit = dict.fromkeys(self.mix, 0)
        turn = []
        for _ in range(total):
            for kind, weight in self.mix.items():
                credit[kind] += weight
            chosen = max(credit, key=credit.__getitem__)
            credit[chosen] -= total
            turn.append(chosen)
        return turn


@dataclass(frozen=True)
class Tick:
    """One request of the schedule, due `at` seconds after the start."""

    number: int
    at: float
    kind: Kind
    fresh: bool
    client: int


def ticks(plan: Plan) -> Iterator[Tick]:
    """Every request of the plan, in order; kinds, connections and clients alternate evenly."""
    cycle, seen = plan.cycle, dict.fromkeys(plan.mix, 0)
    for number in count():
        at = number / plan.rate
        if at >= plan.seconds:
            return
        kind = cycle[number % len(cycle)]
        nth = seen[kind]
        seen[kind] += 1
        fresh = int((nth + 1) * plan.fresh) > int(nth * plan.fresh)
        yield Tick(number, at, kind, fresh, number % plan.clients)
