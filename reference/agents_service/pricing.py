"""Prices of models, to keep budgets before and after a call."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Final

MICRO_USD: Final = Decimal("0.000001")
CHARACTERS_PER_TOKEN: Final = 3  # English is nearer to 4; an estimate may only err upwards
OVERHEAD_TOKENS: Final = 1500  # instructions and tool definitions


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input: Decimal
    output: Decimal


# Longest matching prefix wins.
PRICES: Final = {
    "gpt-3.5-turbo": Price(Decimal("0.50"), Decimal("1.50")),
    "gpt-4": Price(Decimal(30), Decimal(60)),
    "gpt-4-turbo": Price(Decimal(10), Decimal(30)),
    "gpt-4o": Price(Decimal("2.50"), Decimal(10)),
    "gpt-4o-mini": Price(Decimal("0.15"), Decimal("0.60")),
    "gpt-4.1": Price(Decimal(2), Decimal(8)),
    "gpt-4.1-mini": Price(Decimal("0.40"), Decimal("1.60")),
    "gpt-4.1-nano": Price(Decimal("0.10"), Decimal("0.40")),
    "gpt-5": Price(Decimal("1.25"), Decimal(10)),
    "gpt-5-mini": Price(Decimal("0.25"), Decimal(2)),
    "gpt-5-nano": Price(Decimal("0.05"), Decimal("0.40")),
}
UNKNOWN: Final = Price(Decimal(10), Decimal(30))
"""For a model that isn't listed: rather too much than too little."""


def price_of(model: str) -> Price:
    """Return the price of a model or of a dated version of it."""
    matches = [name for name in PRICES if model == name or model.startswith(f"{name}-")]
    return PRICES[max(matches, key=len)] if matches else UNKNOWN


def cost(model: str, input_tokens: int, output_tokens: int) -> Decimal:
    """Return what a call cost, in USD."""
    price = price_of(model)
    usd = (price.input * input_tokens + price.output * output_tokens) / 1_000_000
    return usd.quantize(MICRO_USD, ROUND_UP)


def estimate(models: tuple[str, ...], text: str, max_output_tokens: int) -> Decimal:
    """Return the most that a call may cost with whichever of `models` answers, in USD."""
    tokens = len(text) // CHARACTERS_PER_TOKEN + OVERHEAD_TOKENS
    return max(cost(model, tokens, max_output_tokens) for model in models)
