"""Waiting for a condition, for all tests: no test sleeps for a time that was guessed."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

DEADLINE = 60.0
INTERVAL = 0.25


def eventually(
    holds: Callable[[], object],
    what: str,
    deadline: float = DEADLINE,
    *,
    interval: float = INTERVAL,
    pardoned: tuple[type[Exception], ...] = (),
    details: Callable[[], str] = str,
) -> None:
    """Wait until a condition holds; `deadline` and `interval` are seconds.

    Exceptions that are `pardoned` mean that it does not hold yet; all others go on at once.

    Raises:
        AssertionError: it did not in time; the message says `what`, and `details` where there are some.
    """
    trying = Retrying(
        stop=stop_after_delay(deadline),
        wait=wait_fixed(interval),
        retry=retry_if_result(lambda found: not found) | retry_if_exception_type(pardoned),
    )
    try:
        trying(holds)
    except RetryError as error:
        cause = error.last_attempt.exception()
        reason = f" ({cause})" if cause else ""
        lines = [f"not within {deadline:g} s: {what}{reason}", details()]
        raise AssertionError("\n".join(filter(None, lines))) from cause
