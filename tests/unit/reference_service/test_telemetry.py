"""Traces (002 §5), and what must not be in them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reference.agents_service.app import Parts, create_app
from reference.agents_service.config import Settings, load
from reference.agents_service.drain import Drain
from reference.agents_service.metrics import Metrics
from reference.agents_service.ratelimit import RateLimiter
from reference.agents_service.telemetry import Telemetry, parse_headers, scrub_query
from tests.unit.reference_service.fakes import FakeStore, IdentityProvider, Vendors


async def spans_of(
    store: FakeStore, login: IdentityProvider, vendors: Vendors, method: str, path: str, **request: object
) -> tuple[ReadableSpan, ...]:
    settings, exporter = load(Settings), InMemorySpanExporter()
    telemetry, metrics = Telemetry(settings, span_exporter=exporter), Metrics()
    client = httpx.AsyncClient(transport=httpx.MockTransport(vendors.answer))
    telemetry.instrument_client(client)
    parts = Parts(
        settings=settings,
        metrics=metrics,
        telemetry=telemetry,
        drain=Drain(),
        store=store,
        client=client,
        login_client=httpx.AsyncClient(transport=httpx.MockTransport(login.answer)),
        limiter=RateLimiter(None, 100, metrics),
    )
    transport = httpx.ASGITransport(create_app(parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://agents.test") as caller:
        await caller.request(method, path, **request)  # type: ignore[arg-type]
    await parts.close()
    return exporter.get_finished_spans()


async def test_a_request_is_traced_with_its_correlation_id_and_its_calls(
    store: FakeStore, login: IdentityProvider, vendors: Vendors
) -> None:
    session = await store.create_session("alice", "full")
    spans = await spans_of(
        store,
        login,
        vendors,
        "POST",
        f"/api/agents/sessions/{session.id}/messages",
        json={"message": "my key is sk-planted-0123456789"},
        headers={"Authorization": f"Bearer {login.token()}", "X-Correlation-ID": "order-42"},
    )
    servers = [span for span in spans if span.kind.name == "SERVER"]
    clients = [span for span in spans if span.kind.name == "CLIENT"]
    assert len(servers) == 1
    assert servers[0].resource.attributes["service.name"] == "icupa-agents-service"
    assert servers[0].attributes is not None
    assert servers[0].attributes["correlation_id"] == "order-42"
    assert servers[0].attributes["http.route"] == "/api/agents/sessions/{session_id}/messages"
    assert len(clients) == 2, "the flags and the model"
    assert {span.context.trace_id for span in clients} == {servers[0].context.trace_id}
    traceparent = f"{servers[0].context.trace_id:032x}"
    assert all(traceparent in request.headers["traceparent"] for request in vendors.requests)
    written = json.dumps([json.loads(span.to_json()) for span in spans])
    for secret in ("sk-planted", "sk-test-0123456789", "service-role-key-0123", "Bearer", login.token()[:20]):
        assert secret not in written


async def test_the_verify_token_is_not_in_a_trace(
    store: FakeStore, login: IdentityProvider, vendors: Vendors
) -> None:
    query = "hub.mode=subscribe&hub.verify_token=verify-token-0123&hub.challenge=TEST"
    spans = await spans_of(store, login, vendors, "GET", f"/api/whatsapp/webhook?{query}")
    assert len(spans) == 1
    written = spans[0].to_json()
    assert "hub.mode=subscribe" in written
    assert "verify-token-0123" not in written


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/api/health", "/metrics"])
async def test_probes_are_not_traced(
    store: FakeStore, login: IdentityProvider, vendors: Vendors, path: str
) -> None:
    assert await spans_of(store, login, vendors, "GET", path) == ()


def test_without_an_endpoint_there_is_no_telemetry() -> None:
    telemetry = Telemetry(load(Settings))
    assert (telemetry.traces, telemetry.metrics, telemetry.logs, telemetry.meter) == (None, None, None, None)
    telemetry.shutdown()


def test_a_collector_that_hangs_holds_no_shutdown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference.agents_service.telemetry.FLUSH_SECONDS", 0.3)
    released = threading.Event()

    class Hanging(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            released.wait(30)
            return super().export(spans)

    telemetry = Telemetry(load(Settings), span_exporter=Hanging())
    assert telemetry.traces is not None
    telemetry.traces.get_tracer("test").start_span("work").end()
    started = time.monotonic()
    telemetry.shutdown()
    released.set()
    assert 0.2 < time.monotonic() - started < 5


def test_headers_are_parsed_as_the_specification_says() -> None:
    assert parse_headers("Authorization=Bearer%20abc, x = y=z,,") == {
        "authorization": "Bearer abc",
        "x": "y=z",
    }
    assert parse_headers("Authorization=Bearer abc") == {"authorization": "Bearer abc"}


def test_queries_lose_the_values_of_secrets_only() -> None:
    assert scrub_query("a=1&access_token=x&hub.verify_token=y&b=") == (
        "a=1&access_token=[redacted]&hub.verify_token=[redacted]&b="
    )
