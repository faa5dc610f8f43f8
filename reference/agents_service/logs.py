"""Structured logs: JSON on stdout, correlation id bound, secrets kept out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog

REDACTED = "[redacted]"
SENSITIVE_KEYS = re.compile(
    r"(authorization|cookie|password|passwd|secret|api[_-]?key|apikey|verify_token|access_token|id_token)",
    re.I,
)
SENSITIVE_TEXT = (
    re.compile(r"\bsk-[A-Za-z0-9_-]{8,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),
    re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=verify_token=)[^&\s]+"),
)
CARD_NUMBER = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.-])")

EventDict = MutableMapping[str, Any]


def is_card_number(candidate: str) -> bool:
    """Tell whether digits, blanks and dashes make a payment card number (Luhn, 13 to 19 digits)."""
    digits = [int(c) for c in candidate if c.isdigit()]
    doubled = (d if i % 2 == 0 else d * 2 - (9 if d > 4 else 0) for i, d in enumerate(reversed(digits)))  # noqa: PLR2004
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0  # noqa: PLR2004


class Redactor:
    """Replaces secrets in log records: known values, telling keys, telling shapes."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted((s for s in secrets if len(s) >= 6), key=len, reverse=True)  # noqa: PLR2004

    def text(self, value: str) -> str:
        """Return `value` without secrets and card numbers."""
        for secret in self._secrets:
            value = value.replace(secret, REDACTED)
        for pattern in SENSITIVE_TEXT:
            value = pattern.sub(REDACTED, value)
        return CARD_NUMBER.sub(lambda m: REDACTED if is_card_number(m[0]) else m[0], value)

    def value(self, value: Any) -> Any:
        """Return `value`, of any JSON shape, without secrets."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {
                    k: REDACTED if SENSITIVE_KEYS.search(str(k)) else self.value(v) for k, v in value.items()
                }
            case list() | tuple() | set() | frozenset():
                return [self.value(item) for item in value]
            case None | bool() | int() | float():
                return value
            case _:
                return self.text(str(value))

    def __call__(self, _logger: Any, _name: str, event: EventDict) -> EventDict:
        """Act as a structlog processor."""
        return dict(self.value(dict(event)))


def configure(
    level: str, redactor: Redactor, extra_processors: Iterable[structlog.typing.Processor] = ()
) -> None:
    """Send the logs of this process, the libraries' included, to stdout as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_colors,
                redactor,
                *extra_processors,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    # Requests are logged by our own middleware, with the correlation id and without the query.
    for name in ("uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).setLevel(logging.WARNING)


def _without_colors(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second copy of its messages."""
    event.pop("color_message", None)
    return event


def get_logger() -> structlog.stdlib.BoundLogger:
    """Return the service's logger."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("agents_service")
    return logger
