"""OpenTelemetry over OTLP/HTTP (002 §5): traces, metrics and logs, never in a request's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import httpx
import structlog
from fastapi import FastAPI
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.metrics import Meter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, get_current_span

from .config import TelemetrySettings
from .logs import REDACTED, SENSITIVE_KEYS

FLUSH_SECONDS = 6.0
"""The most that the process waits at its end for queued telemetry to be taken."""
EXPORT_SECONDS = 20.0
"""How long an export is tried again: longer than the collector needs to restart."""
QUEUED_SPANS = 16_384
"""Spans kept while an export is tried again; more are dropped rather than waited for."""
PROBES = "^.*/(health|health/ready|metrics)$"
_SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}


def parse_headers(text: str) -> dict[str, str]:
    """Parse OTEL_EXPORTER_OTLP_HEADERS (`key=value,key=value`, values may be percent-encoded)."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip().lower(): unquote(value.strip()) for key, _, value in pairs}


def scrub_query(query: str) -> str:
    """Return a query string without the values of telling parameters."""
    return urlencode(
        [
            (key, REDACTED if SENSITIVE_KEYS.search(key) or "token" in key else value)
            for key, value in parse_qsl(query, keep_blank_values=True)
        ],
        safe="[]",
    )


def _scrub_span(span: Span, scope: Mapping[str, Any]) -> None:
    """Keep the webhook's verify token, which comes in the query, out of traces."""
    query = scope.get("query_string", b"").decode("latin-1")
    if not query or not span.is_recording():
        return
    clean = scrub_query(query)
    attributes = getattr(span, "attributes", None) or {}
    for name in ("http.url", "url.full", "http.target"):
        if name in attributes:
            span.set_attribute(name, urlunsplit(urlsplit(str(attributes[name]))._replace(query=clean)))
    if "url.query" in attributes:
        span.set_attribute("url.query", clean)


class Telemetry:
    """The providers of one process; without an endpoint it does nothing."""

    def __init__(self, settings: TelemetrySettings, *, span_exporter: SpanExporter | None = None) -> None:
        self.traces: TracerProvider | None = None
        self.metrics: MeterProvider | None = None
        self.logs: LoggerProvider | None = None
        endpoint = settings.otel_exporter_otlp_endpoint
        if endpoint is None and span_exporter is None:
            return
        resource = Resource.create(
            {
                "service.name": settings.otel_service_name,
                "service.version": settings.git_sha,
                "deployment.environment.name": settings.environment,
                "cloud.region": settings.region,
            }
        )
        secret = settings.otel_exporter_otlp_headers
        headers = parse_headers(secret.get_secret_value()) if secret else None
        self.traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        if span_exporter is None:
            span_exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers, timeout=EXPORT_SECONDS)
        self.traces.add_span_processor(
            BatchSpanProcessor(span_exporter, max_queue_size=QUEUED_SPANS, schedule_delay_millis=1_000)
        )
        if endpoint is None:
            return
        self.metrics = MeterProvider(
            [
                PeriodicExportingMetricReader(
                    OTLPMetricExporter(f"{endpoint}/v1/metrics", headers=headers, timeout=EXPORT_SECONDS),
                    export_interval_millis=15_000,
                )
            ],
            resource=resource,
            shutdown_on_exit=False,
        )
        self.logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self.logs.add_log_record_processor(
            BatchLogRecordProcessor(
                OTLPLogExporter(f"{endpoint}/v1/logs", headers=headers, timeout=EXPORT_SECONDS)
            )
        )

    @property
    def meter(self) -> Meter | None:
        """Return the meter of the service's metrics."""
        return self.metrics.get_meter("agents_service") if self.metrics else None

    def instrument_app(self, app: FastAPI) -> None:
        """Trace the requests that `app` answers, probes and scrapes excepted."""
        if self.traces is not None:
            FastAPIInstrumentor.instrument_app(
                app,
                tracer_provider=self.traces,
                meter_provider=self.metrics,
                server_request_hook=_scrub_span,
                excluded_urls=PROBES,
                exclude_spans=["receive", "send"],
            )

    def instrument_client(self, client: httpx.AsyncClient) -> None:
        """Trace the requests that `client` sends; the trace's context goes along."""
        if self.traces is not None:
            HTTPXClientInstrumentor.instrument_client(
                client, tracer_provider=self.traces, meter_provider=self.metrics
            )

    def log_processor(
        self, _logger: Any, _name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Add the trace's ids to a log record and send the record along (structlog processor)."""
        context = get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = f"{context.trace_id:032x}"
            event["span_id"] = f"{context.span_id:016x}"
        # The exporter's own complaints must not feed the exporter.
        if self.logs is not None and not str(event.get("logger", "")).startswith(
            ("opentelemetry", "urllib3")
        ):
            level = str(event.get("level", "info"))
            self.logs.get_logger("agents_service").emit(
                LogRecord(
                    body=str(event.get("event", "")),
                    severity_text=level,
                    severity_number=_SEVERITIES.get(level, SeverityNumber.INFO),
                    attributes={
                        k: v if isinstance(v, bool | int | float | str) else str(v)
                        for k, v in event.items()
                        if k not in {"event", "level", "timestamp"} and v is not None
                    },
                )
            )
        return event

    def shutdown(self) -> None:
        """Send what is queued, within FLUSH_SECONDS whatever the collector does, and stop."""
        providers = [p for p in (self.traces, self.logs, self.metrics) if p is not None]
        self.traces = self.metrics = self.logs = None
        # The SDK's own time limits don't hold while an export is tried again; these threads die with us.
        threads = [threading.Thread(target=provider.shutdown, daemon=True) for provider in providers]
        deadline = time.monotonic() + FLUSH_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
