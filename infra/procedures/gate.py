"""Whether a flag may go on: latency, errors, guardrails of the tenants who have it, over a window (DEP-3).

What is asked of Prometheus, what its answers mean, and the verdict; no I/O. The service counts turns for
which a flag was on, by flag and tenant group (`reference/agents_service/README.md`), so that neither other
tenants nor the time before the flag was on have a part in it. `increase` takes a counter that starts again
for what it is, and each slot's is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from infra.config.model import Rollout

_STALE_SCRAPES = 3
_COVERED = 0.75
"""Share of the window's scrapes that must be there."""
_QUANTILE = 0.95


class GateError(Exception):
    """Prometheus's answer is none; the message says what is wrong with it."""


class Verdict(StrEnum):
    """What a window says of one tenant group."""

    GO = "go"
    BREACH = "breach"
    NO_DATA = "no-data"
    FAILED = "failed"
    """The phase could not be carried out: nothing was measured."""


class Figures(BaseModel):
    """What Prometheus says of one tenant group over `seconds`; None where it says nothing, or not a number.

    `turns` are those that the service answered or failed; what it refused was the caller's doing. Rates are
    shares of `turns`. `age` in seconds is that of the newest sample, `samples` how many scrapes there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seconds: float
    turns: float | None = None
    p95_seconds: float | None = None
    error_rate: float | None = None
    guardrail_rate: float | None = None
    age: float | None = None
    samples: float | None = None

    def line(self, limits: Rollout) -> str:
        """The figures beside their limits, for people."""
        return ", ".join(
            [
                f"{_number(self.turns)} turns (at least {limits.minimum_turns})",
                f"p95 {_seconds(self.p95_seconds)} (at most {limits.p95_seconds:g} s)",
                f"errors {_share(self.error_rate)} (at most {limits.error_rate:.2%})",
                f"guardrails {_share(self.guardrail_rate)} (at most {limits.guardrail_rate:.2%})",
            ]
        )


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reasons, one a limit; empty for GO."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


def queries(flag: str, seconds: float) -> dict[str, str]:
    """PromQL by what it asks, each answered by tenant group; the range ends at the time of the query."""
    window = f"[{max(1, round(seconds))}s]"
    chosen = f'flag="{flag}"'

    def rate(metric: str, matchers: str, by: str = "tenant_group") -> str:
        return f"sum by ({by}) (increase({metric}{{{chosen}{matchers}}}{window}))"

    judged = rate("agents_flag_turns_total", ',outcome=~"success|error"')
    errors = rate("agents_flag_turns_total", ',outcome="error"')
    breaches = rate("agents_flag_guardrail_breaches_total", "")
    buckets = rate("agents_flag_answer_seconds_bucket", "", "tenant_group, le")
    success = f'agents_flag_turns_total{{{chosen},outcome="success"}}'
    return {
        "turns": judged,
        "p95_seconds": f"histogram_quantile({_QUANTILE}, {buckets})",
        "error_rate": f"{errors} / {judged}",
        "guardrail_rate": f"{breaches} / {judged}",
        "age": f"time() - max by (tenant_group) (timestamp({success}))",
        "samples": f"sum by (tenant_group) (count_over_time({success}{window}))",
    }


class _Sample(BaseModel):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(BaseModel):
    resultType: str  # noqa: N815 - Prometheus's spelling
    result: list[_Sample]


class _Answer(BaseModel):
    """Body of `/api/v1/query`."""

    status: str
    data: _Data | None = None
    error: str = ""

    @classmethod
    def parse(cls, body: Any) -> Self:
        try:
            return cls.model_validate(body)
        except ValidationError:
            raise GateError("the answer is not one of Prometheus's API") from None


def figures(answers: Mapping[str, Any], groups: Sequence[str], seconds: float) -> dict[str, Figures]:
    """Figures of each group from the bodies of `/api/v1/query`, by the names of `queries`.

    Raises:
        GateError: a body is missing, is an error, or is not a vector.
    """
    found: dict[str, dict[str, float]] = {group: {} for group in groups}
    for name in queries("", seconds):
        if name not in answers:
            raise GateError(f"{name}: not answered")
        answer = _Answer.parse(answers[name])
        if answer.status != "success" or answer.data is None:
            raise GateError(f"{name}: {answer.error or answer.status}")
        if answer.data.resultType != "vector":
            raise GateError(f"{name}: answered with a {answer.data.resultType}, not with a vector")
        for sample in answer.data.result:
            group = sample.metric.get("tenant_group", "")
            value = _value(sample.value[1])
            if group in found and value is not None:
                found[group][name] = value
    return {group: Figures(seconds=seconds, **values) for group, values in found.items()}


_FLOAT = TypeAdapter(float)


def _value(text: str) -> float | None:
    """A sample's value; None for NaN and infinity, which are rates of nothing."""
    try:
        value = _FLOAT.validate_python(text)
    except ValidationError:
        raise GateError(f"{text!r} is not a number") from None
    return value if math.isfinite(value) else None


def judge(found: Figures, limits: Rollout, scrape_seconds: float) -> Judgement:
    """Verdict on one group: a breach where enough turns show one, no data where they can't show health."""
    enough = found.turns is not None and found.turns >= limits.minimum_turns
    breaches = _breaches(found, limits) if enough else ()
    if breaches:
        return Judgement(Verdict.BREACH, breaches)
    missing = _missing(found, limits, scrape_seconds)
    return Judgement(Verdict.NO_DATA, missing) if missing else Judgement(Verdict.GO)


def judge_all(found: Mapping[str, Figures], group: str, limits: Rollout, scrape_seconds: float) -> Judgement:
    """Verdict on a phase: its own `group` must show health, earlier ones must not show a breach."""
    verdicts = {name: judge(figures, limits, scrape_seconds) for name, figures in found.items()}
    if group not in verdicts:
        return Judgement(Verdict.NO_DATA, (f"{group}: not asked about",))
    bad = {
        name: said
        for name, said in verdicts.items()
        if said.verdict is Verdict.BREACH or (name == group and said.verdict is not Verdict.GO)
    }
    reasons = tuple(f"{name}: {reason}" for name, said in bad.items() for reason in said.reasons)
    if any(said.verdict is Verdict.BREACH for said in bad.values()):
        return Judgement(Verdict.BREACH, reasons)
    return Judgement(verdicts[group].verdict, reasons)


def _breaches(found: Figures, limits: Rollout) -> tuple[str, ...]:
    reasons = []
    if found.p95_seconds is not None and found.p95_seconds > limits.p95_seconds:
        reasons.append(f"p95 {found.p95_seconds:.2f} s, at most {limits.p95_seconds:g} s")
    if found.error_rate is not None and found.error_rate > limits.error_rate:
        reasons.append(f"errors {found.error_rate:.2%}, at most {limits.error_rate:.2%}")
    if found.guardrail_rate is not None and found.guardrail_rate > limits.guardrail_rate:
        reasons.append(f"guardrail breaches {found.guardrail_rate:.2%}, at most {limits.guardrail_rate:.2%}")
    return tuple(reasons)


def _missing(found: Figures, limits: Rollout, scrape_seconds: float) -> tuple[str, ...]:
    reasons = []
    if found.turns is None or found.turns < limits.minimum_turns:
        turns = f"{_number(found.turns)} turns in {found.seconds:.0f} s"
        reasons.append(f"{turns}, at least {limits.minimum_turns}")
    else:
        rates = {
            "p95": found.p95_seconds,
            "error rate": found.error_rate,
            "guardrail rate": found.guardrail_rate,
        }
        reasons += [f"no {name}" for name, value in rates.items() if value is None]
    oldest = _STALE_SCRAPES * scrape_seconds
    if found.age is None:
        reasons.append("the service is not scraped any more")
    elif found.age > oldest:
        reasons.append(f"newest sample {_number(found.age)} s old, at most {oldest:g} s")
    least = math.floor(_COVERED * found.seconds / scrape_seconds)
    if found.samples is None or found.samples < least:
        reasons.append(f"{_number(found.samples)} scrapes in {found.seconds:.0f} s, at least {least}")
    return tuple(reasons)


def _number(value: float | None) -> str:
    return "no" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{_number(value)} s"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"
