"""The sender of the telemetry benchmark: only what was answered with 200, as a whole, counts as accepted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests import otlp_load
from tests.bench.telemetry import Load
from tests.integration.services.edge import free_port

RUN = "0badcafe"


class Backend(ThreadingHTTPServer):
    """Answers as scripted, then with 200; keeps the ids of every export."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.script: list[tuple[int, dict[str, Any]]] = []
        self.exports: list[list[str]] = []


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        backend = self.server
        assert isinstance(backend, Backend)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
        backend.exports.append([span["spanId"] for span in spans])
        status, answer = backend.script.pop(0) if backend.script else (200, {})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Say nothing."""


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def sent(url: str, *, seconds: float = 0.5, grace: float = 5.0) -> Load:
    asked = {"run": RUN, "rate": 20, "batch": 5, "seconds": seconds, "grace": grace, "url": url}
    command = [sys.executable, otlp_load.__file__, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    load = Load()
    for line in done.stdout.splitlines():
        load.take(line)
    return load


def test_what_is_refused_is_sent_again_with_the_same_spans(backend: Backend) -> None:
    backend.script = [(503, {}), (200, {"partialSuccess": {"rejectedSpans": "2"}}), (200, {})]
    load = sent(f"http://127.0.0.1:{backend.server_port}/v1/traces")
    assert backend.exports[0] == backend.exports[1] == backend.exports[2]
    assert backend.exports[0] == [f"{RUN}{number:08x}" for number in range(1, 6)]
    assert load.accepted == load.attempted == set(range(1, 16))
    assert load.answers == {"503": 1, "2 rejected": 1, "200": 3}


def test_what_nobody_answers_is_not_accepted() -> None:
    load = sent(f"http://127.0.0.1:{free_port()}/v1/traces", seconds=0.1, grace=0.1)
    assert load.attempted
    assert not load.accepted
