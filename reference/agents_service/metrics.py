"""Metrics (OBS-2): defined once, read by Prometheus and sent by OTLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import prometheus_client as prom
from opentelemetry.metrics import Meter, NoOpMeter

LATENCY_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 20, 30, 60)


class Counter:
    """A counter with labels."""

    def __init__(
        self,
        registry: prom.CollectorRegistry,
        meter: Meter,
        name: str,
        help_: str,
        labels: tuple[str, ...] = (),
    ) -> None:
        self._labels = labels
        self._prometheus = prom.Counter(name, help_, labels, registry=registry)
        self._otel = meter.create_counter(name, description=help_)

    def add(self, *labels: str, by: float = 1) -> None:
        """Count `by`; labels in the order of their definition."""
        (self._prometheus.labels(*labels) if labels else self._prometheus).inc(by)
        self._otel.add(by, dict(zip(self._labels, labels, strict=True)))

    def prepare(self, *labels: str) -> None:
        """Let the series exist at zero, so that its first increase is seen by a rate."""
        self._prometheus.labels(*labels)


class Histogram:
    """A histogram of seconds with labels."""

    def __init__(
        self,
        registry: prom.CollectorRegistry,
        meter: Meter,
        name: str,
        help_: str,
        labels: tuple[str, ...] = (),
    ) -> None:
        self._labels = labels
        self._prometheus = prom.Histogram(name, help_, labels, registry=registry, buckets=LATENCY_BUCKETS)
        self._otel = meter.create_histogram(
            name, unit="s", description=help_, explicit_bucket_boundaries_advisory=LATENCY_BUCKETS
        )

    def prepare(self, *labels: str) -> None:
        """Let the series exist without an observation, so that its first increase is seen by a rate."""
        self._prometheus.labels(*labels)

    def observe(self, seconds: float, *labels: str) -> None:
        """Record a duration."""
        self._prometheus.labels(*labels).observe(seconds)
        self._otel.record(seconds, dict(zip(self._labels, labels, strict=True)))


class Metrics:
    """All metrics of the service."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.registry = prom.CollectorRegistry()
        prom.ProcessCollector(registry=self.registry)
        prom.PlatformCollector(registry=self.registry)
        prom.GCCollector(registry=self.registry)
        meter = meter or NoOpMeter("agents_service")

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(self.registry, meter, name, help_, labels)

        def histogram(name: str, help_: str, *labels: str) -> Histogram:
            return Histogram(self.registry, meter, name, help_, labels)

        def gauge(name: str, help_: str, *labels: str) -> prom.Gauge:
            return prom.Gauge(name, help_, labels, registry=self.registry)

        self.requests = counter(
            "agents_http_requests_total", "Requests answered.", "method", "route", "status"
        )
        self.request_seconds = histogram(
            "agents_http_request_duration_seconds", "Time to the last byte.", "method", "route"
        )
        self.in_flight = gauge("agents_http_requests_in_flight", "Requests being answered.")
        self.auth_failures = counter("agents_auth_failures_total", "Tokens refused.", "code")
        self.turns = counter("agents_turns_total", "Agent runs.", "outcome", "streaming")
        self.sessions = counter("agents_sessions_total", "Agent sessions created.", "tenant_group")
        self.model_requests = counter(
            "agents_model_requests_total", "Calls of the model API.", "model", "outcome"
        )
        self.model_seconds = histogram("agents_model_duration_seconds", "Time of a model call.", "model")
        self.tokens = counter("agents_tokens_total", "Tokens used.", "model", "kind")
        self.spend = counter("agents_spend_usd_total", "Spend on model calls.", "model")
        self.budget_rejections = counter(
            "agents_budget_rejections_total", "Turns refused by a budget.", "scope"
        )
        self.tools = counter("agents_tool_calls_total", "Tool calls.", "tool", "outcome")
        self.guardrails = counter("agents_guardrail_breaches_total", "Guardrail breaches.", "rule", "kind")
        self.whatsapp = counter("agents_whatsapp_messages_total", "WhatsApp messages taken.", "outcome")
        self.realtime = counter("agents_realtime_sessions_total", "Voice sessions.", "outcome")
        self.rate_limited = counter("agents_rate_limited_total", "Requests over a rate limit.", "feature")
        self.flag_reads = counter("agents_flag_reads_total", "Reads of the feature flags.", "outcome")
        self.flag_turns = counter(
            "agents_flag_turns_total",
            "Agent runs with a feature flag on: success, refused (4xx) or error.",
            "flag",
            "tenant_group",
            "outcome",
        )
        self.flag_seconds = histogram(
            "agents_flag_answer_seconds",
            "Time to the first piece of an answer, or to the failure, with a feature flag on.",
            "flag",
            "tenant_group",
        )
        self.flag_guardrails = counter(
            "agents_flag_guardrail_breaches_total",
            "Guardrail breaches in answers with a feature flag on.",
            "flag",
            "tenant_group",
            "kind",
        )
        self.pool = gauge("agents_db_pool_connections", "Database connections of the pool.", "state")
        self.build = gauge("agents_build_info", "What is running.", "git_sha", "schema_revision", "region")
        self.draining = gauge("agents_draining", "1 while the process drains.")
        self.switch = gauge("agents_switch_enabled", "1 where the switch is on.", "switch")
        self.daily_spend = gauge(
            "agents_daily_spend_usd", "Spend of the last 24 hours, reservations included."
        )
        self.daily_budget = gauge("agents_daily_budget_usd", "Cap on the spend of 24 hours.")
        self.active_users = gauge("agents_active_users", "Callers with an agent run in the last 15 minutes.")
        for scope in ("session", "daily"):
            self.budget_rejections.prepare(scope)
        self.draining.set(0)

    def on_scrape(self, gauge: prom.Gauge, read: Callable[[], float], *labels: str) -> None:
        """Read a gauge's value whenever it is scraped."""
        (gauge.labels(*labels) if labels else gauge).set_function(read)

    def render(self) -> tuple[bytes, str]:
        """Return the Prometheus exposition and its content type."""
        return prom.generate_latest(self.registry), prom.CONTENT_TYPE_PLAIN_0_0_4
