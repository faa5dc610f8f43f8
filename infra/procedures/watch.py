"""Watching hosts after a change (DEP-6): what is asked, what a breach is; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.procedures.operation import ProcedureError

LEAST_REQUESTS = 20
"""Below this many, one error says nothing of a rate."""

_LEAST_SCRAPES = 4
_ENTRY_POINT = 'entrypoint="websecure"'


class Limits(BaseModel):
    """For how long, how often (seconds), and what is too much: failures in a row, share of 5xx."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = Field(default=1800, gt=0, le=24 * 3600)
    interval: float = Field(default=5, gt=0)
    failures: int = Field(default=3, ge=1)
    error_rate: float = Field(default=0.01, ge=0, le=1)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Limits:
        """Check arguments; raises ProcedureError."""
        try:
            return cls.model_validate({name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            wrong = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
            raise ProcedureError(f"watch: {wrong}") from None


def queries(seconds: float) -> dict[str, str]:
    """PromQL by what it asks, over the last `seconds`: all answers of the edge, and those that are 5xx."""
    window = f"[{max(1, round(seconds))}s]"

    def increase(matchers: str) -> str:
        return f"sum(increase(traefik_entrypoint_requests_total{{{_ENTRY_POINT}{matchers}}}{window}))"

    return {"requests": increase(""), "errors": increase(',code=~"5.."')}


def value(body: Any) -> float | None:
    """The one number of an answer of Prometheus's API; None where it has none."""
    try:
        found = float(body["data"]["result"][0]["value"][1])
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return found if found == found else None  # noqa: PLR0124 - not a number


@dataclass
class Watch:
    """What was seen of one host so far."""

    limits: Limits
    checks: int = 0
    failed: int = 0
    in_a_row: int = 0
    last: str = ""
    requests: float | None = None
    errors: float = 0
    unanswered: str = ""
    _breach: str = field(default="", repr=False)

    def answered(self, problem: str) -> None:
        """One check of health: what was wrong, empty where nothing was."""
        self.checks += 1
        if not problem:
            self.in_a_row = 0
            return
        self.failed += 1
        self.in_a_row += 1
        self.last = problem
        if self.in_a_row >= self.limits.failures:
            self._breach = f"not healthy {self.in_a_row} times in a row: {problem}"

    def counted(self, answers: dict[str, Any] | None, problem: str = "") -> None:
        """What Prometheus says of the time since the watch began; None where it did not answer."""
        self.unanswered = problem
        if answers is None:
            return
        self.requests = value(answers.get("requests"))
        self.errors = value(answers.get("errors")) or 0
        enough = self.requests is not None and self.requests >= LEAST_REQUESTS
        if enough and self.requests and self.errors / self.requests > self.limits.error_rate:
            self._breach = (
                f"{self.errors / self.requests:.1%} of {self.requests:.0f} answers are errors"
                f" (at most {self.limits.error_rate:.1%})"
            )

    @property
    def breach(self) -> str:
        """Why the watch ends early; empty while all is well."""
        return self._breach

    def summary(self) -> str:
        """What was seen, in one line."""
        health = f"{self.checks - self.failed} of {self.checks} checks healthy"
        if self.requests is None:
            return f"{health}; error rate unknown ({self.unanswered or 'Prometheus has no data yet'})"
        return f"{health}; {self.requests:.0f} answers, {self.errors:.0f} of them errors"


def least_seconds(scrape_seconds: float) -> float:
    """How long a watch must have lasted before Prometheus can say anything of it."""
    return _LEAST_SCRAPES * scrape_seconds
