"""The one error of this room."""

from __future__ import annotations


class ToolchainError(Exception):
    """Something that is needed is missing and can't be made here; the text says what to do about it."""
