"""What belongs to the request at hand."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar
from typing import Final

from opentelemetry.trace import get_current_span

CORRELATION_HEADER: Final = "X-Correlation-ID"
_ACCEPTED: Final = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def choose_correlation_id(offered: str | None) -> str:
    """Return the caller's correlation id where it is harmless, else a new one."""
    return offered if offered and _ACCEPTED.fullmatch(offered) else str(uuid.uuid4())


def annotate(**attributes: str | int | float | bool) -> None:
    """Put attributes on the span of the request."""
    get_current_span().set_attributes(attributes)


def correlation_headers() -> dict[str, str]:
    """Return the header that carries the correlation id to others."""
    current = correlation_id.get()
    return {CORRELATION_HEADER: current} if current else {}
