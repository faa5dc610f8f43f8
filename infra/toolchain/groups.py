"""What tools are needed for; standard library only."""

from __future__ import annotations

from enum import StrEnum


class Group(StrEnum):
    """A group of commands that need the same tools."""

    PREVIEW = "preview"
    UP = "up"
    UNIT = "unit"
    LINT = "lint"
    BROWSER = "browser"
