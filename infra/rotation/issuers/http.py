"""Calls of an issuer's API: time limits, retries of what may be repeated, errors without values."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from infra.rotation.issuers.errors import (
    IssuerError,
    IssuerGarbageError,
    IssuerRefusedError,
    IssuerUnavailableError,
)
from infra.smoke.client import UnknownNameError

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_MAY_PASS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_REPEATABLE = ("GET", "DELETE")
_TRIES = 3
_PAUSE = 0.2
_LONGEST = 160
_LIKE_A_VALUE = re.compile(r"(?=[\w+/=.~-]*\d)[\w+/=.~-]{16,}|[\w+/=.~-]{40,}")
"""A word that may be somebody's credential: long, with a digit in it, or very long."""

Shape = TypeVar("Shape")


class Parsed(BaseModel):
    """Base of what is read of an answer: the rest is ignored, and no error quotes what was found."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True)
class Answer:
    """What was answered. `who` and `what` name it in errors; the body may hold a value."""

    who: str
    what: str
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def denied(self) -> bool:
        """Whether the credential was refused."""
        return self.status in DENIED

    def read(self, shape: type[Shape]) -> Shape:
        """Its JSON in a shape; IssuerGarbageError where it is another one."""
        try:
            return TypeAdapter(shape).validate_json(self.body)
        except ValidationError as error:
            wrong = sorted({".".join(map(str, item["loc"])) or "all of it" for item in error.errors()})
            raise IssuerGarbageError(
                f"{self.who} answered {self.what} with something else ({', '.join(wrong)[:_LONGEST]})"
            ) from None

    def garbage(self) -> IssuerGarbageError:
        """The error that it is not an answer that is known."""
        return IssuerGarbageError(f"{self.who} answered {self.what} with {self.status} and something else")


class Api:
    """An API at `base`, called `who` in errors."""

    def __init__(self, who: str, base: str, web: Callable[[], httpx.Client]) -> None:
        self.who = who
        self._base = base.rstrip("/")
        self._web = web

    def call(
        self,
        method: str,
        path: str,
        *,
        hidden: Collection[str],
        accept: Collection[int] = (),
        shown: str | None = None,
        **request: Any,
    ) -> Answer:
        """One request, tried again where it may be repeated; `hidden` are the values that it holds.

        Success is 2xx, or one of `accept`. `shown` stands for the path in errors, where that is a value.

        Raises:
            IssuerUnavailableError: no answer, or 5xx, or too many requests.
            IssuerRefusedError: any other 4xx.
            IssuerGarbageError: a redirection.
        """
        what = f"{method} {shown or path}"
        retrying = Retrying(
            retry=retry_if_exception_type(IssuerUnavailableError),
            stop=stop_after_attempt(_TRIES if method in _REPEATABLE else 1),
            wait=wait_exponential_jitter(multiplier=_PAUSE, max=2.0, jitter=_PAUSE),
            reraise=True,
        )

        def once() -> Answer:
            got = self._send(what, method, f"{self._base}{path}", request)
            if got.is_success or got.status_code in accept:
                return Answer(self.who, what, got.status_code, got.headers, got.content)
            said = f"{got.status_code}{_said(got, hidden)}"
            if got.is_server_error or got.status_code in _MAY_PASS:
                raise IssuerUnavailableError(f"{self.who} can't answer {what} now: {said}")
            if got.is_client_error:
                raise IssuerRefusedError(f"{self.who} refused {what}: {said}")
            raise IssuerGarbageError(f"{self.who} answered {what} with {said}")

        return retrying(once)

    def _send(self, what: str, method: str, url: str, request: Mapping[str, Any]) -> httpx.Response:
        try:
            with self._web() as client:
                return client.request(method, url, **{"timeout": TIMEOUT, **request})
        except httpx.InvalidURL:
            raise IssuerError(f"{self.who}: where {what} goes is not a URL") from None
        except (httpx.HTTPError, UnknownNameError, OSError) as error:
            # Its text may quote the URL.
            raise IssuerUnavailableError(
                f"{self.who} did not answer {what} ({type(error).__name__})"
            ) from None


def bearer(value: str) -> dict[str, str]:
    """The header of a bearer token."""
    return {"Authorization": f"Bearer {value}"}


def without(values: Collection[str], text: str) -> str:
    """A text of somebody else without these values, and without what looks like another one."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        for form in (
            value,
            quote(value, safe=""),
            json.dumps(value)[1:-1],
            base64.b64encode(value.encode()).decode(),
        ):
            text = text.replace(form, "(hidden)")
    return _LIKE_A_VALUE.sub("(hidden)", text)


def _said(got: httpx.Response, hidden: Collection[str]) -> str:
    """What a JSON error says of itself."""
    try:
        document = got.json()
        inner = document["error"] if isinstance(document.get("error"), dict | str) else document
        said = inner if isinstance(inner, str) else inner.get("message") or inner.get("code")
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""
    if not isinstance(said, str):
        return ""
    text = without(hidden, " ".join(said.split()))
    return f" ({text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'})"
