"""What surrounds every route: correlation id, drain, limits, log line, metrics; and the token check."""

from __future__ import annotations

import hmac
import logging
import time
from typing import Final

import structlog
from pydantic import SecretStr
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .auth import TokenVerifier
from .context import CORRELATION_HEADER, annotate, choose_correlation_id, correlation_id
from .drain import Drain
from .errors import ApiError, database_unavailable, internal_error
from .logs import get_logger
from .metrics import Metrics

MAX_BODY_BYTES: Final = 1024 * 1024
PROBES: Final = frozenset({"/health", "/api/health", "/health/ready"})
OPEN: Final = PROBES | {"/api/whatsapp/webhook"}
"""Paths without a token: liveness and readiness, and the webhook, which checks a signature."""
METRICS: Final = frozenset({"/metrics", "/api/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class BodyTooLargeError(ApiError):
    """The body is larger than MAX_BODY_BYTES."""

    def __init__(self) -> None:
        super().__init__(413, "body_too_large", f"a body has at most {MAX_BODY_BYTES} bytes")


class RequestMiddleware:
    """Pure ASGI, so that streams pass through unbuffered and are counted to their last byte."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, drain: Drain) -> None:
        self._app = app
        self._metrics = metrics
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        correlation = choose_correlation_id(Headers(scope=scope).get(CORRELATION_HEADER))
        token = correlation_id.set(correlation)
        structlog.contextvars.bind_contextvars(correlation_id=correlation)
        annotate(correlation_id=correlation)
        probe = scope["path"] in PROBES
        exchange = _Exchange(send, correlation, self._drain)
        started = time.perf_counter()
        if not probe:
            self._drain.enter()
            self._metrics.in_flight.inc()
        try:
            await self._answer(scope, receive, exchange)
        finally:
            if not probe:
                self._drain.leave()
                self._metrics.in_flight.dec()
                self._report(scope, exchange, time.perf_counter() - started)
            structlog.contextvars.unbind_contextvars("correlation_id")
            correlation_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            await self._app(scope, _limited(scope, receive), exchange.send)
        except ApiError as error:
            if not exchange.status:
                await _send_error(error, scope, receive, exchange)
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            get_logger().error("request.database", path=scope["path"], problem=type(error).__name__)
            if exchange.status:
                raise
            await _send_error(database_unavailable(), scope, receive, exchange)
        except Exception:
            get_logger().exception("request.failed", path=scope["path"])
            if exchange.status:
                raise
            await _send_error(internal_error(), scope, receive, exchange)

    def _report(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = exchange.status or 499
        self._metrics.requests.add(method, route, str(status))
        self._metrics.request_seconds.observe(seconds, method, route)
        level = logging.DEBUG if scope["path"] in METRICS else logging.INFO
        milliseconds = round(seconds * 1000, 1)
        get_logger().log(
            level, "request.done", method=method, route=route, status=status, duration_ms=milliseconds
        )


class AuthenticationMiddleware:
    """Lets nobody in without a verified token, whatever the path, save those of OPEN."""

    def __init__(
        self, app: ASGIApp, *, verifier: TokenVerifier, metrics_token: SecretStr | None, metrics: Metrics
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._metrics = metrics
        self._scrape = f"Bearer {metrics_token.get_secret_value()}".encode() if metrics_token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            authorization = Headers(scope=scope).get("authorization")
            if not self._may_scrape(scope["path"], authorization):
                await self._authenticate(scope, authorization)
        await self._app(scope, receive, send)

    def _may_scrape(self, path: str, authorization: str | None) -> bool:
        given = (authorization or "").encode()
        return path in METRICS and self._scrape is not None and hmac.compare_digest(given, self._scrape)

    async def _authenticate(self, scope: Scope, authorization: str | None) -> None:
        try:
            principal = await self._verifier.verify(authorization)
        except ApiError as error:
            self._metrics.auth_failures.add(error.code)
            raise
        scope.setdefault("state", {})["principal"] = principal


class _Exchange:
    """One response on its way out."""

    def __init__(self, send: Send, correlation: str, drain: Drain) -> None:
        self._send = send
        self._correlation = correlation
        self._drain = drain
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[CORRELATION_HEADER] = self._correlation
            headers.setdefault("Cache-Control", "no-store")
            if self._drain.draining:
                headers["Connection"] = "close"
        await self._send(message)


async def _send_error(error: ApiError, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
    response = JSONResponse(error.body(), error.status, headers=error.headers)
    await response(scope, receive, exchange.send)


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Return a `receive` that refuses a body beyond the limit, announced or not."""
    announced = Headers(scope=scope).get("content-length", "0")
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MAX_BODY_BYTES or (announced.isdigit() and int(announced) > MAX_BODY_BYTES):
            raise BodyTooLargeError
        return message

    return limited
