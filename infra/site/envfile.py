"""Writes env files that Compose reads back exactly as they were meant."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_PLAIN = re.compile(r"^[A-Za-z0-9_./:@%+,=-]*$")


def quote(value: str) -> str:
    """`value` as Compose's env file parser must see it; ValueError for what it has no spelling for.

    Single quotes are literal there, without any escape; double quotes know `\\\\`, `\\"` and `\\$`.
    """
    if any(character in value for character in "\n\r\0"):
        raise ValueError("line breaks and NUL can't be written into an env file")
    if _PLAIN.match(value):
        return value
    if "'" not in value and not value.endswith("\\"):
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def render(variables: Mapping[str, str]) -> str:
    """Env file with one variable a line, sorted; ValueError names the variable, never its value."""
    lines = []
    for name in sorted(variables):
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name of an environment variable")
        try:
            lines.append(f"{name}={quote(variables[name])}")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return "".join(f"{line}\n" for line in lines)
