"""Guardrails on what goes to the model and what comes back; breaches become agent_events (000)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .logs import CARD_NUMBER, REDACTED, SENSITIVE_TEXT, is_card_number

KINDS: Final = ("policy", "hallucination")
_HOLD_BACK: Final = re.compile(r"(?:[\d][\d .-]{0,30}|\b(?:sk-|eyJ)[A-Za-z0-9_.-]{0,200}|s|sk|e|ey)$")
_ALLERGEN_PROMISE: Final = re.compile(
    r"\b(?:guaranteed|100\s?%|completely|absolutely)\s+(?:\w+[\s-]){0,2}free\b|\bno risk of (?:an )?allerg",
    re.I,
)


@dataclass(frozen=True)
class Breach:
    """A rule that was broken; `kind` is one of KINDS."""

    rule: str
    kind: str


def clean(text: str, where: str) -> tuple[str, list[Breach]]:
    """Return `text` without card numbers and credentials, and the breaches found."""
    breaches = []
    without_cards = CARD_NUMBER.sub(lambda m: REDACTED if is_card_number(m[0]) else m[0], text)
    if without_cards != text:
        breaches.append(Breach(f"{where}.card_number", "policy"))
    cleaned = without_cards
    for pattern in SENSITIVE_TEXT:
        cleaned = pattern.sub(REDACTED, cleaned)
    if cleaned != without_cards:
        breaches.append(Breach(f"{where}.credential", "policy"))
    return cleaned, breaches


def claims(text: str) -> list[Breach]:
    """Return the promises in an answer that no data can back."""
    return [Breach("output.allergen_promise", "hallucination")] if _ALLERGEN_PROMISE.search(text) else []


class OutputFilter:
    """Cleans a stream: holds back an ending that may grow into something that must not be sent."""

    def __init__(self) -> None:
        self._held = ""
        self.text = ""
        self.breaches: list[Breach] = []

    def feed(self, delta: str) -> str:
        """Return what may be sent by now."""
        self._held += delta
        ending = _HOLD_BACK.search(self._held)
        cut = ending.start() if ending else len(self._held)
        ready, self._held = self._held[:cut], self._held[cut:]
        return self._pass(ready)

    def finish(self) -> str:
        """Return the rest, and judge the whole text."""
        rest = self._pass(self._held)
        self._held = ""
        self.breaches += claims(self.text)
        return rest

    def _pass(self, text: str) -> str:
        cleaned, breaches = clean(text, "output")
        self.breaches += breaches
        self.text += cleaned
        return cleaned
