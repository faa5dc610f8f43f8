"""Certificates that a stack trusts in place of the public authorities."""

from __future__ import annotations

from infra import paths
from infra.config.model import Stack
from infra.config.types import MOUNTED_FILE


class MissingFileError(Exception):
    """The preparation of a local stack has not made a file yet."""


def certificates(environment: str, stack: Stack, preview: bool) -> tuple[str, ...]:
    """Certificates in PEM; what preparation has yet to make is shown by its name in a preview.

    Raises MissingFileError outside a preview.
    """
    return tuple(_certificate(environment, entry, preview) for entry in stack.trust)


def mounted_text(environment: str, consumer: str, name: str, preview: bool) -> str:
    """Text of a public file that the preparation of a local stack makes; raises MissingFileError."""
    path = paths.mounted_files(environment, consumer) / name
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if preview:
            return f"(made by preparation: {consumer}/{name})"
        raise MissingFileError(
            f"{path} is missing: run `python -m infra.secretstore prepare --stack {environment}`"
        ) from None


def _certificate(environment: str, entry: str, preview: bool) -> str:
    match = MOUNTED_FILE.fullmatch(entry)
    return mounted_text(environment, match[1], match[2], preview) if match else entry.strip()
