"""The rendered collector, running: what it redacts, and what survives an outage and its own death (VM-7)."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from infra.config.load import load_file
from infra.config.model import Role
from infra.services import names, otel_collector
from infra.services.context import Context
from tests.integration.services.edge import await_condition, free_port, tool

KEY = "sk-proj-canary0123456789abcdef"
CARD = "4111 1111 1111 1111"
PLANTED = f"key {KEY} card {CARD}"
HEADERS = "Authorization=Bearer canary-token-0123,X-Scope-OrgID=icupa"


class Sink(ThreadingHTTPServer):
    """Trace backend; answers 503 while it is `down`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.down = False
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def text(self) -> str:
        """Everything that was received."""
        return json.dumps(self.received)

    @property
    def spans(self) -> list[str]:
        """Names of all spans received."""
        return [
            span["name"]
            for _, body in self.received
            for resource in body.get("resourceSpans", [])
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


class _Receive(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        sink = self.server
        assert isinstance(sink, Sink)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if not sink.down:
            sink.received.append((self.path, json.loads(body)))
            sink.headers.append(dict(self.headers.items()))
        answer = b"{}"
        self.send_response(503 if sink.down else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Say nothing."""


class Collector:
    """The collector by its own entrypoint, on ports of the test."""

    def __init__(self, home: Path, sink: Sink) -> None:
        self._home, self._sink = home, sink
        self._ports = {name: free_port() for name in ("grpc", "http", "health", "metrics")}
        self._process: subprocess.Popen[bytes] | None = None
        stack = load_file("local")
        context = Context("local", stack, stack.hosts.machines[0].region, Role.PRIMARY)
        configuration = otel_collector.configuration(context)
        # Readable for the test; everything else is as rendered.
        configuration["exporters"]["otlp_http"]["encoding"] = "json"
        text = yaml.safe_dump(configuration)
        for number, name in (
            (names.OTLP_GRPC_PORT, "grpc"),
            (names.OTLP_HTTP_PORT, "http"),
            (names.OTEL_HEALTH_PORT, "health"),
        ):
            text = text.replace(f"0.0.0.0:{number}", f"127.0.0.1:{self._ports[name]}")
        text = text.replace(f"port: {names.OTEL_METRICS_PORT}", f"port: {self._ports['metrics']}")
        text = text.replace("/var/lib/otelcol", str(home / "storage"))
        (home / "config.yaml").write_text(text)
        (home / "storage").mkdir()
        self._entrypoint = [
            word.replace("/usr/local/bin/otelcol", tool("otelcol")).replace(
                "/etc/otelcol/config.yaml", str(home / "config.yaml")
            )
            for word in otel_collector.service(context).entrypoint
        ]

    def start(self) -> None:
        """Start it and wait until it takes telemetry."""
        log = self._home / "collector.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._entrypoint,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "OTLP_EXPORTER_ENDPOINT": f"http://127.0.0.1:{self._sink.server_address[1]}",
                    "OTLP_EXPORTER_HEADERS": HEADERS,
                },
            )
        health = f"http://127.0.0.1:{self._ports['health']}/"
        await_condition("collector", lambda: httpx.get(health).status_code == 200, log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def send(self, kind: str, body: dict[str, Any]) -> None:
        """Send telemetry as a service does; it must be accepted."""
        url = f"http://127.0.0.1:{self._ports['http']}/v1/{kind}"
        assert httpx.post(url, json=body, timeout=10).status_code == 200


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def collector(tmp_path: Path, sink: Sink) -> Iterator[Collector]:
    with _stopped(Collector(tmp_path, sink)) as made:
        made.start()
        yield made


@contextmanager
def _stopped(collector: Collector) -> Iterator[Collector]:
    try:
        yield collector
    finally:
        collector.stop()


def attributes(**values: str) -> list[dict[str, Any]]:
    return [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in values.items()]


def trace(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": attributes(service__name="icupa-agents-service", note=PLANTED)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def span(number: int, **more: Any) -> dict[str, Any]:
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": f"span-{number}",
        "kind": 1,
        "startTimeUnixNano": "1763621234567890123",
        "endTimeUnixNano": "1763621234567990123",
        **more,
    }


def test_planted_key_and_card_do_not_arrive_and_the_rest_does(collector: Collector, sink: Sink) -> None:
    planted = span(
        1,
        name=f"call {KEY}",
        status={"code": 2, "message": PLANTED},
        attributes=attributes(
            prompt=PLANTED,
            http__request__header__authorization="Bearer canary0123456789",
            gen_ai__request__model="gpt-4.1",
        ),
        events=[
            {
                "name": "said",
                "timeUnixNano": "1763621234567890123",
                "attributes": attributes(text=PLANTED),
            }
        ],
    )
    collector.send("traces", trace(planted))
    log = {
        "resourceLogs": [
            {
                "resource": {"attributes": attributes(service__name="icupa-agents-service")},
                "scopeLogs": [
                    {"logRecords": [{"body": {"stringValue": PLANTED}, "attributes": attributes(a=PLANTED)}]}
                ],
            }
        ]
    }
    collector.send("logs", log)
    await_condition("both signals", lambda: {path for path, _ in sink.received} >= {"/v1/traces", "/v1/logs"})
    assert "canary" not in sink.text
    assert "4111" not in sink.text
    assert "icupa-agents-service" in sink.text
    assert "gpt-4.1" in sink.text
    assert "1763621234567890123" in sink.text


def test_headers_of_the_environment_reach_the_backend(collector: Collector, sink: Sink) -> None:
    collector.send("traces", trace(span(1)))
    await_condition("trace", lambda: sink.spans == ["span-1"])
    headers = {name.lower(): value for name, value in sink.headers[0].items()}
    assert headers["authorization"] == "Bearer canary-token-0123"
    assert headers["x-scope-orgid"] == "icupa"
    assert sink.received[0][0] == "/v1/traces"


def test_accepted_spans_survive_an_outage_and_a_kill(collector: Collector, sink: Sink) -> None:
    sink.down = True
    for number in range(50):
        collector.send("traces", trace(span(number)))
    collector.stop(signal.SIGKILL)
    collector.start()
    for number in range(50, 100):
        collector.send("traces", trace(span(number)))
    sink.down = False
    wanted = {f"span-{number}" for number in range(100)}
    await_condition("all spans", lambda: set(sink.spans) == wanted)
    assert len(sink.spans) == len(wanted)
