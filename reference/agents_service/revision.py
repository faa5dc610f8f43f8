"""The revision of the schema that this release needs."""

from __future__ import annotations

from typing import Final

REVISION: Final = "0001"
"""The newest of its own migrations."""
