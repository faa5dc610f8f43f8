"""References to secrets, `${secret:<name>}`: found, checked and resolved (SEC-4).

`${secret:<name>.side}` is `a` or `b`, whichever follows from the value: what two names take turns by.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
"""What a name of a secret looks like."""

_SIDE = ".side"

REFERENCE = re.compile(r"\$\{secret:(" + NAME.pattern + r")(?:" + re.escape(_SIDE) + r")?\}")
"""A reference; its only group is the name."""

_ATTEMPT = re.compile(r"\$\{secret:[^}\n]*\}?")


def side(value: str) -> str:
    """`a` or `b` by a value's SHA-256; images that have the value compute the same."""
    return "ab"[int(hashlib.sha256(value.encode()).hexdigest()[0], 16) % 2]


def side_of(name: str) -> str:
    """Text of the reference to the side of a secret's value."""
    return f"{reference(name)[:-1]}{_SIDE}}}"


def reference(name: str) -> str:
    """Text of the reference to `name`.

    Raises:
        ValueError: if `name` can't be a name of a secret.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a secret: lower case letters, digits, single dashes")
    return f"${{secret:{name}}}"


def parse(text: str) -> str:
    """Name in a text that is one reference and nothing else.

    Raises:
        ValueError: if it is something else; the message does not repeat the text, it may be a value.
    """
    match = REFERENCE.fullmatch(text)
    if match is None or _is_side(match):
        raise ValueError("not a reference; accepted: ${secret:<name>}")
    return match[1]


def find(text: str) -> tuple[str, ...]:
    """Names that a text refers to, each once, in order of appearance.

    Raises:
        ValueError: if something begins like a reference and is none, such as `${secret:Name}`.
    """
    names = tuple(dict.fromkeys(match[1] for match in REFERENCE.finditer(text)))
    for attempt in _ATTEMPT.finditer(text):
        if not REFERENCE.fullmatch(attempt[0]):
            raise ValueError(f"{attempt[0]!r} is not a reference; accepted: ${{secret:<name>}}")
    return names


def resolve(text: str, value_of: Callable[[str], str]) -> str:
    """The text with every reference replaced by its value; values are not searched for references again."""
    find(text)

    def resolved(match: re.Match[str]) -> str:
        value = value_of(match[1])
        return side(value) if _is_side(match) else value

    return REFERENCE.sub(resolved, text)


def _is_side(match: re.Match[str]) -> bool:
    return match[0].endswith(f"{_SIDE}}}")
