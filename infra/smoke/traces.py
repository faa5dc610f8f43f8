"""Finds a trace in the backend it must arrive at (VM-7)."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, Protocol

import httpx

from infra.config.model import Traces
from infra.secrets import references
from infra.smoke.target import Target
from infra.world.traces import sink_file

_POLL = 0.5
_TIMEOUT = 30.0
_BASE64_DIGITS = 24
"""Of a trace id; in hexadecimal it has 32."""


class TraceSink(Protocol):
    """Reads what a trace backend has."""

    def services(self, trace_id: str) -> set[str]:
        """Values of `service.name` among the spans of a trace; empty while it has not arrived."""
        ...


class TraceSinkError(Exception):
    """The backend can't be asked."""


def spans_services(batches: list[dict[str, Any]], trace_id: str) -> set[str]:
    """Services that sent spans of a trace, in OTLP/JSON resource spans."""
    found = set()
    for batch in batches:
        spans = [span for scope in batch.get("scopeSpans", []) for span in scope.get("spans", [])]
        if any(_trace_id(span) == trace_id for span in spans):
            for attribute in batch.get("resource", {}).get("attributes", []):
                if attribute.get("key") == "service.name":
                    found.add(str(attribute["value"].get("stringValue", "")))
    return found


def _trace_id(span: dict[str, Any]) -> str:
    """Lower-case hexadecimal digits, as OTLP/JSON has them; Tempo writes base64, as other protobuf JSON."""
    text = str(span.get("traceId", ""))
    return base64.b64decode(text).hex() if len(text) == _BASE64_DIGITS else text.lower()


class ContainerSink:
    """The local trace sink: a file of OTLP/JSON lines in a container."""

    def __init__(self, container: str, path: str = sink_file("traces")) -> None:
        self._container = container
        self._path = path

    def services(self, trace_id: str) -> set[str]:
        """See `TraceSink.services`."""
        done = subprocess.run(
            ["docker", "exec", self._container, "grep", "--no-messages", "-F", trace_id, self._path],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.stderr.strip():
            raise TraceSinkError(f"{self._container}: {done.stderr.strip()}")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return spans_services([batch for line in lines for batch in line.get("resourceSpans", [])], trace_id)


class TempoSink:
    """Tempo's query API, `GET <query_url>/api/traces/<id>`; `token` is the value of the one that is named."""

    def __init__(self, query: Traces, token: str, client: httpx.Client) -> None:
        self._url = query.query_url
        self._client = client
        if query.username is None:
            client.headers["Authorization"] = f"Bearer {token}"
        else:
            client.auth = httpx.BasicAuth(query.username, token)

    def services(self, trace_id: str) -> set[str]:
        """See `TraceSink.services`."""
        try:
            response = self._client.get(
                f"{self._url}/api/traces/{trace_id}", headers={"Accept": "application/json"}
            )
        except httpx.HTTPError as error:
            raise TraceSinkError(f"{self._url}: {error}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return set()
        if response.is_error:
            raise TraceSinkError(f"{self._url} answers {response.status_code}")
        document = response.json()
        batches: list[dict[str, Any]] = document.get("batches", document.get("resourceSpans", []))
        return spans_services(batches, trace_id)


def open_sink(target: Target, client: Callable[[], httpx.Client]) -> TraceSink | None:
    """Sink of an environment; None where none can be asked."""
    if target.trace_container:
        return ContainerSink(target.trace_container)
    if target.trace_query:
        token = target.secrets.get(references.parse(target.trace_query.token))
        return TempoSink(target.trace_query, token, client())
    return None


def await_trace(sink: TraceSink, trace_id: str, service: str, timeout: float = _TIMEOUT) -> float:
    """Seconds until a trace of a service was there; raises TraceSinkError."""
    began = time.monotonic()
    while True:
        services = sink.services(trace_id)
        waited = time.monotonic() - began
        if service in services:
            return waited
        if waited > timeout:
            seen = f"only from {', '.join(sorted(services))}" if services else "no span"
            raise TraceSinkError(f"trace {trace_id} after {timeout:.0f} s: {seen}")
        time.sleep(_POLL)
