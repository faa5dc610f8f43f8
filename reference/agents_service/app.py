"""The HTTP application: what is where, and who may ask."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Final

import httpx
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from . import SERVICE_NAME, ratelimit
from .agents import Agents, Completed, Delta
from .auth import Principal, TokenVerifier
from .config import SWITCHES, Settings
from .context import correlation_headers
from .database import create_engine, observe_pool
from .drain import Drain
from .errors import ApiError, internal_error
from .flags import Flags, FlagTable
from .logs import get_logger
from .metrics import Metrics
from .middleware import AuthenticationMiddleware, RequestMiddleware
from .model_api import ModelApi
from .realtime import Realtime
from .revision import REVISION
from .store import PostgresStore, Store
from .switches import Switches
from .telemetry import Telemetry
from .tools import CreateVoucher, LookupCustomer, RedeemVoucher, Tools, VoidVoucher
from .whatsapp import WhatsApp

READY_TIMEOUT_SECONDS: Final = 2.0
SCRAPE_TIMEOUT_SECONDS: Final = 1.0


@dataclass
class Parts:
    """What the application is put together from; tests replace the store and the clients."""

    settings: Settings
    metrics: Metrics
    telemetry: Telemetry
    drain: Drain
    store: Store
    client: httpx.AsyncClient
    login_client: httpx.AsyncClient
    limiter: ratelimit.RateLimiter
    engine: AsyncEngine | None = None

    async def close(self) -> None:
        """Close connections and send what telemetry is queued."""
        await self.client.aclose()
        await self.login_client.aclose()
        if self.engine is not None:
            await self.engine.dispose()
        self.telemetry.shutdown()


def production_parts(settings: Settings, telemetry: Telemetry) -> Parts:
    """Connect the application to the world."""
    metrics = Metrics(telemetry.meter)
    engine = create_engine(settings)
    observe_pool(engine, metrics)
    client = httpx.AsyncClient()
    telemetry.instrument_client(client)
    trust = ssl.create_default_context(cafile=str(settings.oidc_ca_file) if settings.oidc_ca_file else None)
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    return Parts(
        settings=settings,
        metrics=metrics,
        telemetry=telemetry,
        drain=Drain(),
        store=PostgresStore(engine),
        client=client,
        login_client=httpx.AsyncClient(verify=trust),
        limiter=ratelimit.RateLimiter(ratelimit.connect(redis_url), settings.rate_limit_per_minute, metrics),
        engine=engine,
    )


class Message(BaseModel):
    """What a diner says."""

    model_config = ConfigDict(extra="forbid")

    message: Annotated[str, Field(min_length=1, max_length=8_000)]
    stream: bool = False


def _caller(request: Request) -> Principal:
    principal = request.state.principal
    assert isinstance(principal, Principal)  # noqa: S101 - the middleware lets nobody else in
    return principal


Caller = Annotated[Principal, Depends(_caller)]
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,200}$")]


def create_app(parts: Parts) -> FastAPI:
    """Put the application together."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        get_logger().info("service.started", git_sha=parts.settings.git_sha, schema_revision=REVISION)
        yield
        get_logger().info("service.stopping")
        await parts.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    switches = Switches(parts.settings)
    _describe(parts, switches)
    _health_routes(app, parts)
    _metrics_routes(app, parts)
    _agent_routes(app, parts, switches)
    _whatsapp_routes(app, parts, switches)
    _error_handlers(app)
    app.add_middleware(
        AuthenticationMiddleware,
        verifier=TokenVerifier(parts.settings, parts.login_client),
        metrics_token=parts.settings.metrics_token,
        metrics=parts.metrics,
    )
    app.add_middleware(RequestMiddleware, metrics=parts.metrics, drain=parts.drain)
    parts.telemetry.instrument_app(app)
    return app


def _describe(parts: Parts, switches: Switches) -> None:
    metrics, settings = parts.metrics, parts.settings
    metrics.build.labels(settings.git_sha, REVISION, settings.region).set(1)
    metrics.daily_budget.set(float(settings.agent_daily_budget_usd))
    metrics.on_scrape(metrics.draining, lambda: float(parts.drain.draining))
    for name in SWITCHES:
        metrics.on_scrape(metrics.switch, partial(_switch_value, switches, name), name)


def _switch_value(switches: Switches, name: str) -> float:
    return float(switches.enabled(name))


def _health_routes(app: FastAPI, parts: Parts) -> None:
    started = time.time()

    @app.get("/health")
    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        """Liveness: answers as long as the process can answer, also while it drains."""
        return {
            "status": "ok",
            "service": SERVICE_NAME,
            "git_sha": parts.settings.git_sha,
            "region": parts.settings.region,
            "schema_revision": REVISION,
            "draining": parts.drain.draining,
            "uptime_seconds": round(time.time() - started, 1),
        }

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        """Readiness: not while draining, and only with a database whose schema serves this release."""
        checks = {
            "draining": "draining" if parts.drain.draining else "ok",
            **await _check_database(parts.store),
        }
        good = all(state == "ok" for state in checks.values())
        return JSONResponse(
            {"status": "ready" if good else "not_ready", "checks": checks}, 200 if good else 503
        )


async def _check_database(store: Store) -> dict[str, str]:
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            revisions = await store.supported_revisions()
    except Exception as error:
        get_logger().warning("readiness.database", problem=type(error).__name__)
        return {"database": "unreachable", "schema": "unknown"}
    return {"database": "ok", "schema": "ok" if REVISION in revisions else f"revision {REVISION} is missing"}


def _metrics_routes(app: FastAPI, parts: Parts) -> None:
    @app.get("/metrics")
    @app.get("/api/metrics")
    async def metrics() -> Response:
        """Prometheus text. The spend gauges keep their last value while the database is away."""
        try:
            async with asyncio.timeout(SCRAPE_TIMEOUT_SECONDS):
                spent, users = await parts.store.activity()
            parts.metrics.daily_spend.set(float(spent))
            parts.metrics.active_users.set(users)
        except Exception as error:
            get_logger().warning("metrics.database", problem=type(error).__name__)
        body, media_type = parts.metrics.render()
        return Response(body, headers={"Content-Type": media_type})


def _agent_routes(app: FastAPI, parts: Parts, switches: Switches) -> None:
    settings, metrics, limiter = parts.settings, parts.metrics, parts.limiter
    api = ModelApi(settings, parts.client, metrics)
    flags = Flags(FlagTable(settings, parts.client), metrics)
    tools = Tools(parts.store, switches, metrics)
    agents = Agents(settings, parts.store, api, flags=flags, tools=tools, metrics=metrics)
    realtime = Realtime(settings, api, parts.client, metrics)

    @app.get("/api/whoami")
    async def whoami(caller: Caller) -> dict[str, Any]:
        """Return the verified identity."""
        return asdict(caller)

    @app.get("/api/flags")
    async def feature_flags(caller: Caller, key: Annotated[str, Query(max_length=200)]) -> dict[str, Any]:
        """Tell whether a flag is on for the caller's tenant group."""
        enabled = await flags.enabled(key, caller.tenant_group)
        return {"key": key, "tenant_group": caller.tenant_group, "enabled": enabled}

    @app.post("/api/agents/sessions", status_code=201)
    async def create_session(caller: Caller) -> dict[str, Any]:
        """Open a session."""
        switches.require("AI_RESPONSES_ENABLED", "FEATURE_AGENT_CHAT")
        await limiter.check(caller.subject, "sessions")
        session = await agents.create_session(caller)
        return {"id": str(session.id), "tenant_group": session.tenant_group}

    @app.post("/api/agents/sessions/{session_id}/messages")
    async def send_message(
        caller: Caller,
        session_id: uuid.UUID,
        body: Message,
        accept: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Answer a message, as JSON or as server-sent events (`stream`, or Accept: text/event-stream)."""
        switches.require("AI_RESPONSES_ENABLED", "FEATURE_AGENT_CHAT")
        await limiter.check(caller.subject, "messages")
        stream = body.stream or "text/event-stream" in (accept or "")
        turn = agents.turn(caller, session_id, body.message, stream=stream)
        if stream:
            first = await anext(turn)
            return StreamingResponse(
                _server_sent(first, turn), media_type="text/event-stream", headers=correlation_headers()
            )
        async with aclosing(turn):  # type: ignore[type-var]
            items = [item async for item in turn]
        completed = next(item for item in items if isinstance(item, Completed))
        return JSONResponse(completed.json())

    @app.post("/api/realtime/sessions", status_code=201)
    async def create_voice_session(caller: Caller) -> dict[str, Any]:
        """Open a voice session."""
        switches.require("AI_REALTIME_ENABLED", "FEATURE_AGENT_VOICE")
        await limiter.check(caller.subject, "realtime")
        return await realtime.create()

    @app.post("/api/tools/lookup_customer")
    async def lookup_customer(caller: Caller, body: LookupCustomer) -> dict[str, Any]:
        """Find a customer."""
        await limiter.check(caller.subject, "tools")
        return await tools.run("lookup_customer", lambda: tools.lookup_customer(caller, body))

    @app.post("/api/tools/create_voucher", status_code=201)
    async def create_voucher(
        caller: Caller, body: CreateVoucher, idempotency_key: IdempotencyKey = None
    ) -> dict[str, Any]:
        """Issue a voucher; a 201 means that it is durable."""
        await limiter.check(caller.subject, "tools")
        return await tools.run("create_voucher", lambda: tools.create_voucher(caller, body, idempotency_key))

    @app.post("/api/tools/redeem_voucher")
    async def redeem_voucher(caller: Caller, body: RedeemVoucher) -> dict[str, Any]:
        """Redeem a voucher."""
        await limiter.check(caller.subject, "tools")
        return await tools.run("redeem_voucher", lambda: tools.redeem_voucher(caller, body))

    @app.post("/api/tools/void_voucher")
    async def void_voucher(caller: Caller, body: VoidVoucher) -> dict[str, Any]:
        """Void a voucher."""
        await limiter.check(caller.subject, "tools")
        return await tools.run("void_voucher", lambda: tools.void_voucher(caller, body))

    @app.get("/api/vouchers/{policy_number}")
    async def get_voucher(caller: Caller, policy_number: str) -> dict[str, Any]:
        """Read a voucher back."""
        await limiter.check(caller.subject, "tools")
        return await tools.get_voucher(policy_number)


async def _server_sent(
    first: Delta | Completed, rest: AsyncIterator[Delta | Completed]
) -> AsyncIterator[str]:
    """Render a turn as server-sent events: `delta`, then `completed` or `error`."""
    yield _sse(first)
    try:
        async for item in rest:
            yield _sse(item)
    except ApiError as error:
        yield f"event: error\ndata: {json.dumps(error.body())}\n\n"
    except Exception:
        get_logger().exception("stream.failed")
        yield f"event: error\ndata: {json.dumps(internal_error().body())}\n\n"


def _sse(item: Delta | Completed) -> str:
    if isinstance(item, Delta):
        return f"event: delta\ndata: {json.dumps({'text': item.text})}\n\n"
    return f"event: completed\ndata: {json.dumps(item.json())}\n\n"


def _whatsapp_routes(app: FastAPI, parts: Parts, switches: Switches) -> None:
    whatsapp = WhatsApp(parts.settings, parts.store, parts.metrics)

    @app.get("/api/whatsapp/webhook")
    async def verify(
        mode: Annotated[str | None, Query(alias="hub.mode")] = None,
        token: Annotated[str | None, Query(alias="hub.verify_token")] = None,
        challenge: Annotated[str | None, Query(alias="hub.challenge", max_length=1000)] = None,
    ) -> PlainTextResponse:
        """Answer Meta's verification."""
        switches.require("WHATSAPP_INTEGRATION_ENABLED")
        return PlainTextResponse(whatsapp.challenge(mode, token, challenge))

    @app.post("/api/whatsapp/webhook")
    async def take(
        request: Request, x_hub_signature_256: Annotated[str | None, Header()] = None
    ) -> dict[str, int]:
        """Take signed messages."""
        body = await request.body()
        whatsapp.check_signature(body, x_hub_signature_256)
        switches.require("WHATSAPP_INTEGRATION_ENABLED")
        return await whatsapp.take(body)


def _error_handlers(app: FastAPI) -> None:
    async def api_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101 - registered for this type
        return JSONResponse(error.body(), error.status, headers=error.headers)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
        places = sorted({".".join(str(part) for part in detail["loc"]) for detail in error.errors()})
        wrong = ApiError(422, "request_invalid", f"not acceptable: {', '.join(places)}")
        return JSONResponse(wrong.body(), wrong.status)

    async def http_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        codes = {404: "not_found", 405: "method_not_allowed"}
        wrong = ApiError(error.status_code, codes.get(error.status_code, "http_error"), str(error.detail))
        return JSONResponse(wrong.body(), wrong.status, headers=error.headers)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
