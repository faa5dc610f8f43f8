"""Errors that callers see: one JSON envelope, one stable code each. And what commands end with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SERVER_ERROR: Final = 500
"""From this status on it is the service that failed, not the caller."""


class CommandError(Exception):
    """Why a command can't do its work, in words for whoever ran it; `status` is its exit status."""

    status = 1


class ApiError(Exception):
    """An answer with an HTTP status, a stable code and a sentence for people.

    `code` is part of the API: clients and smoke checks match on it, never on the message.
    """

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> dict[str, dict[str, str]]:
        """Return the envelope every error is sent in."""
        return {"error": {"code": self.code, "message": self.message}}


def internal_error() -> ApiError:
    """Return what callers are told of a failure that is ours; the log has the rest."""
    return ApiError(500, "internal_error", "something went wrong on our side")


def database_unavailable() -> ApiError:
    """Return what callers are told while PostgreSQL is away; what they asked for was not done."""
    return ApiError(
        503, "database_unavailable", "the database is away at the moment", headers={"Retry-After": "5"}
    )


class UnauthorizedError(ApiError):
    """No acceptable bearer token (RFC 6750)."""

    def __init__(self, code: str, message: str) -> None:
        challenge = 'Bearer realm="agents-service"'
        if code != "token_missing":
            challenge += f', error="invalid_token", error_description="{message}"'
        super().__init__(401, code, message, headers={"WWW-Authenticate": challenge})


class SwitchedOffError(ApiError):
    """A switch (CFG-2) disables what was asked for; the code names the switch."""

    def __init__(self, switch: str) -> None:
        super().__init__(503, f"switched_off.{switch}", f"{switch} is off", headers={"Retry-After": "60"})


class SessionBudgetExceededError(ApiError):
    """The session has used up AGENT_SESSION_BUDGET_USD."""

    def __init__(self) -> None:
        super().__init__(402, "session_budget_exceeded", "this session has used up its budget")


class DailyBudgetExceededError(ApiError):
    """The environment has used up AGENT_DAILY_BUDGET_USD in the last 24 hours."""

    def __init__(self) -> None:
        super().__init__(
            429,
            "daily_budget_exceeded",
            "the daily budget is used up",
            headers={"Retry-After": "3600"},
        )
