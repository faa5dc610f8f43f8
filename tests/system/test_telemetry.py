"""Telemetry of the running local stack (VM-7): a request's trace arrives, and what is secret does not."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra import local
from infra.outputs.read import read_outputs
from infra.smoke.checks import SERVICE_NAME, Smoke
from infra.smoke.target import find_target
from infra.smoke.traces import ContainerSink, await_trace
from tests.otlp import MachineTelemetry, active_machine, sink_lines
from tests.running import STACK
from tests.waiting import eventually

pytestmark = pytest.mark.system

SIGNALS = ("traces", "logs", "metrics")
_NUMBERS = itertools.count(secrets.randbelow(10**6) * 1000)


def card(prefix: str, length: int) -> str:
    """A card number of its own whose check digit is right."""
    body = f"{prefix}{next(_NUMBERS):0{length - len(prefix) - 1}d}"
    total = 0
    for index, digit in enumerate(int(character) for character in reversed(body)):
        doubled = digit * 2 if index % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return f"{body}{-total % 10}"


def in_groups(number: str, separator: str) -> str:
    return separator.join(number[start : start + 4] for start in range(0, len(number), 4))


def encoded(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def token() -> str:
    """A JWT that nobody signed."""
    return f"{encoded({'alg': 'RS256'})}.{encoded({'sub': secrets.token_hex(8)})}.{secrets.token_urlsafe(32)}"


# The text to plant, and the part of it that must not arrive.
KINDS: dict[str, Callable[[], tuple[str, str]]] = {
    "API key": lambda: ((key := f"sk-{secrets.token_hex(16)}"), key),
    "project API key": lambda: ((key := f"sk-proj-{secrets.token_urlsafe(24)}x"), key),
    "bearer token": lambda: (f"Bearer {(opaque := secrets.token_hex(16))}", opaque),
    "JWT": lambda: ((jwt := token()), jwt.rsplit(".", 1)[1]),
    "password": lambda: (f"password={(word := secrets.token_hex(8))}", word),
    "Visa": lambda: ((number := card("4", 16)), number),
    "Visa in groups": lambda: ((number := in_groups(card("4", 16), " ")), number),
    "Mastercard with dashes": lambda: ((number := in_groups(card("51", 16), "-")), number),
    "Mastercard of the new range": lambda: ((number := card("2221", 16)), number),
    "American Express": lambda: ((number := card("37", 15)), number),
    "Discover": lambda: ((number := card("6011", 16)), number),
}
PLACES = {
    "traces": (
        "span name",
        "status message",
        "trace state",
        "attribute",
        "attribute of a list",
        "attribute of a mapping",
        "event name",
        "event attribute",
        "scope attribute",
        "resource attribute",
    ),
    "logs": (
        "body",
        "body of a mapping",
        "body of a list",
        "attribute",
        "scope attribute",
        "resource attribute",
    ),
    "metrics": ("data point attribute", "exemplar attribute", "scope attribute", "resource attribute"),
}
PLANTS = [(signal, place, kind) for signal, places in PLACES.items() for place in places for kind in KINDS]


@dataclass
class Planting:
    """What was planted: secrets by signal, place and kind, in exports marked with `mark`."""

    mark: str
    arrived: dict[str, str] = field(default_factory=dict)
    secrets: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def plant(self, signal: str, kind: str) -> Callable[[str], str]:
        """Makes, for each place of a signal, a text with a secret of its own in it."""

        def text(place: str) -> str:
            planted, secret = KINDS[kind]()
            self.secrets[signal, place, kind] = secret
            return f"before {planted} after"

        return text


def value(text: str) -> dict[str, Any]:
    return {"stringValue": text}


def attributes(text: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": "planted", "value": value(text)}, *more]


def trace(mark: str, text: Callable[[str], str]) -> dict[str, Any]:
    """An export of two spans with planted texts in every place."""
    of_list = {"arrayValue": {"values": [value("plain"), value(text("attribute of a list"))]}}
    of_mapping = {"kvlistValue": {"values": attributes(text("attribute of a mapping"))}}
    span = {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": text("span name"),
        "traceState": f"vendor={text('trace state')}",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        "status": {"code": 2, "message": text("status message")},
        "attributes": attributes(
            text("attribute"),
            {"key": "mark", "value": value(mark)},
            {"key": "list", "value": of_list},
            {"key": "mapping", "value": of_mapping},
        ),
    }
    # One of its own: most spans have no event.
    with_event = {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": "with an event",
        "events": [{"name": text("event name"), "attributes": attributes(text("event attribute"))}],
    }
    scope = {"name": "test", "attributes": attributes(text("scope attribute"))}
    return {
        "resource": {"attributes": attributes(text("resource attribute"))},
        "scopeSpans": [{"scope": scope, "spans": [span, with_event]}],
    }


def log(mark: str, text: Callable[[str], str]) -> dict[str, Any]:
    """An export of log records with a planted text in every place."""
    bodies = (
        value(text("body")),
        {"kvlistValue": {"values": attributes(text("body of a mapping"))}},
        {"arrayValue": {"values": [value(text("body of a list"))]}},
    )
    marked = attributes(text("attribute"), {"key": "mark", "value": value(mark)})
    scope = {"name": "test", "attributes": attributes(text("scope attribute"))}
    return {
        "resource": {"attributes": attributes(text("resource attribute"))},
        "scopeLogs": [
            {"scope": scope, "logRecords": [{"body": body, "attributes": marked} for body in bodies]}
        ],
    }


def metric(mark: str, text: Callable[[str], str]) -> dict[str, Any]:
    """An export of one metric with a planted text in every place."""
    point = {
        "asInt": "1",
        "timeUnixNano": "1",
        "attributes": attributes(text("data point attribute"), {"key": "mark", "value": value(mark)}),
        "exemplars": [
            {"timeUnixNano": "1", "asInt": "1", "filteredAttributes": attributes(text("exemplar attribute"))}
        ],
    }
    scope = {"name": "test", "attributes": attributes(text("scope attribute"))}
    return {
        "resource": {"attributes": attributes(text("resource attribute"))},
        "scopeMetrics": [
            {"scope": scope, "metrics": [{"name": "test.planted", "gauge": {"dataPoints": [point]}}]}
        ],
    }


_RESOURCES = {
    "traces": ("resourceSpans", trace),
    "logs": ("resourceLogs", log),
    "metrics": ("resourceMetrics", metric),
}


@pytest.fixture(scope="module")
def telemetry() -> MachineTelemetry:
    return MachineTelemetry(active_machine())


@pytest.fixture(scope="module")
def planting(telemetry: MachineTelemetry) -> Planting:
    """Every kind of secret in every place, sent to the collector, and what the sink got."""
    planting = Planting(mark=f"mark-{secrets.token_hex(8)}")
    for signal in SIGNALS:
        key, made = _RESOURCES[signal]
        exports = [made(planting.mark, planting.plant(signal, kind)) for kind in KINDS]
        telemetry.post(signal, {key: exports})
    for signal in SIGNALS:
        eventually(lambda of=signal: bool(sink_lines(of, planting.mark)), f"{signal} in the sink")  # type: ignore[misc]
        planting.arrived[signal] = sink_lines(signal, planting.mark)
    return planting


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_is_no_secret_arrives(planting: Planting, signal: str) -> None:
    arrived = planting.arrived[signal]
    assert arrived.count(planting.mark) >= len(KINDS)
    assert arrived.count("before ") >= len(KINDS)


@pytest.mark.parametrize(
    ("signal", "place", "kind"),
    PLANTS,
    ids=[f"{kind} in {signal}, {place}" for signal, place, kind in PLANTS],
)
def test_a_planted_secret_does_not_arrive(planting: Planting, signal: str, place: str, kind: str) -> None:
    secret = planting.secrets[signal, place, kind]
    assert secret not in planting.arrived[signal]


@pytest.fixture(scope="module")
def smoke() -> Iterator[Smoke]:
    yield Smoke(find_target(read_outputs(STACK), STACK))


def test_a_requests_trace_and_logs_arrive_without_what_it_carried(smoke: Smoke) -> None:
    """Through the real name: secrets in path, query, headers and body of a request with a real token."""
    planted = {name: KINDS[name]() for name in KINDS}
    key, secret_key = planted["API key"]
    number = planted["Visa"][0]
    token = smoke.token()
    trace_id = secrets.token_hex(16)
    correlation = f"telemetry-{secrets.token_hex(8)}"
    with smoke.client(
        headers={"Authorization": f"Bearer {token}", "X-Correlation-ID": correlation}
    ) as client:
        answer = client.post(
            f"/api/tools/lookup_customer?api_key={secret_key}&card={number}",
            json={"msisdn": "+250788000000", "note": f"{planted['JWT'][0]} {planted['American Express'][0]}"},
            headers={
                "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
                "tracestate": f"vendor={planted['project API key'][0]}",
                "baggage": f"card={planted['Discover'][0]}",
                "User-Agent": f"test {planted['Mastercard of the new range'][0]} {key}",
                "Referer": f"https://example.org/?{planted['password'][0]}",
            },
        )
        missing = client.get(
            f"/api/vouchers/{number}", headers={"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
        )
    assert answer.status_code < 500, answer.text
    assert missing.status_code < 500, missing.text

    await_trace(ContainerSink(local.TRACES.container), trace_id, SERVICE_NAME)
    eventually(lambda: bool(sink_lines("logs", correlation)), "the request's log lines in the sink")

    must_not_arrive = {name: secret for name, (_, secret) in planted.items()} | {
        "token of the request": token
    }
    for signal in SIGNALS:
        found = [name for name, secret in must_not_arrive.items() if sink_lines(signal, secret)]
        assert not found, f"{signal}: {', '.join(found)}"
