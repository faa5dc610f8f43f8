"""Takes the values of an environment's secrets out of texts that leave the controller (SEC-4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from infra.secretstore.store import SopsStore

Redact = Callable[[str], str]

_SHORTEST = 8
_SHORTEST_LINE = 20


def redaction(values: Mapping[str, str | tuple[str, ...]]) -> Redact:
    """A function that writes `(secret NAME)` where a value stands, or a line of one that has several.

    Values shorter than eight characters stay: they would blot out ordinary words.
    """
    each = [
        (name, value)
        for name, found in values.items()
        for value in ((found,) if isinstance(found, str) else found)
    ]
    hidden = {value: name for name, value in each if len(value) >= _SHORTEST}
    for name, value in each:
        lines = [line.strip() for line in value.splitlines()]
        for line in lines if len(lines) > 1 else ():
            if len(line) >= _SHORTEST_LINE and not line.startswith("-----"):
                hidden.setdefault(line, name)
    longest_first = sorted(hidden, key=len, reverse=True)

    def redact(text: str) -> str:
        for value in longest_first:
            text = text.replace(value, f"(secret {hidden[value]})")
        return text

    return redact


def redaction_of(store: SopsStore) -> Redact:
    """The same for all that a store holds, values that are staged or not forgotten yet included.

    Raises:
        SecretStoreError: the values can't be read, so nothing can be taken out.
    """
    return redaction(store.values())
