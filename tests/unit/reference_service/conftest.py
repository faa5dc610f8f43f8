from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import structlog

from reference.agents_service.app import Parts, create_app
from reference.agents_service.config import SWITCHES, Settings, load
from reference.agents_service.drain import Drain
from reference.agents_service.metrics import Metrics
from reference.agents_service.ratelimit import RateLimiter
from reference.agents_service.telemetry import Telemetry
from tests.unit.reference_service.fakes import ENVIRONMENT, FakeStore, IdentityProvider, Vendors


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test the environment of a complete configuration, and nothing else of ours."""
    prefixes = (
        "OPENAI_",
        "AGENT",
        "SUPABASE_",
        "DATABASE_",
        "OIDC_",
        "WHATSAPP_",
        "OTEL_",
        "AI_",
        "FEATURE_",
    )
    for name in list(os.environ):
        if name.startswith(prefixes) or name in {"METRICS_TOKEN", "REDIS_URL", "SWITCHES_FILE", *SWITCHES}:
            monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Commands configure the logging of their process; tests get theirs back."""
    root = logging.getLogger()
    before = root.handlers, root.level
    # The library's own way to show an exception reads the source of every frame, which takes a second.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture(scope="session")
def _keys() -> IdentityProvider:
    return IdentityProvider()


@pytest.fixture
def login(_keys: IdentityProvider) -> IdentityProvider:
    return IdentityProvider(keys=dict(_keys.keys))


@pytest.fixture
def vendors() -> Vendors:
    return Vendors()


@dataclass
class Service:
    """A running application and what it is made of."""

    client: httpx.AsyncClient
    parts: Parts
    login: IdentityProvider

    def bearer(self, **claims: object) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.login.token(**claims)}"}  # type: ignore[arg-type]

    async def session(self, **claims: object) -> str:
        response = await self.client.post("/api/agents/sessions", headers=self.bearer(**claims))
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    async def say(self, message: str, session: str | None = None, **body: object) -> httpx.Response:
        return await self.client.post(
            f"/api/agents/sessions/{session or await self.session()}/messages",
            json={"message": message, **body},
            headers=self.bearer(),
        )

    def metric(self, name: str, **labels: str) -> float | None:
        return self.parts.metrics.registry.get_sample_value(name, labels)


Start = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def start(
    store: FakeStore, login: IdentityProvider, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> Start:
    """Return how to start the service with some variables changed."""

    @asynccontextmanager
    async def running(**variables: str) -> AsyncIterator[Service]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = load(Settings)
        metrics = Metrics()
        parts = Parts(
            settings=settings,
            metrics=metrics,
            telemetry=Telemetry(settings),
            drain=Drain(),
            store=store,
            client=httpx.AsyncClient(transport=httpx.MockTransport(vendors.answer)),
            login_client=httpx.AsyncClient(transport=httpx.MockTransport(login.answer)),
            limiter=RateLimiter(None, settings.rate_limit_per_minute, metrics),
        )
        transport = httpx.ASGITransport(create_app(parts))
        async with httpx.AsyncClient(transport=transport, base_url="http://agents.test") as client:
            yield Service(client, parts, login)
        await parts.close()

    return running


@pytest.fixture
async def service(start: Start) -> AsyncIterator[Service]:
    async with start() as running:
        yield running
