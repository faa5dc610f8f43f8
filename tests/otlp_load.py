"""Sends spans at a constant rate and says which were accepted: standard library only, run beside the service.

Its argument is JSON: `{"run": …, "rate": spans/s, "batch": n, "seconds": s, "grace": s, "url": …}`.
An export that is not answered with 200 is tried again with the same spans, as the service's SDK does, for
`grace` seconds beyond the load. `run` is 8 hexadecimal digits; span n (from 1) has the id `run` followed by n
in 8 digits. On standard output, a line of JSON for every attempt:
`{"at": s, "first": n, "spans": n, "answer": why}`; "200" means that every span was accepted.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0
PAUSE = 0.5
SPANS_PER_TRACE = 5
SERVICE = "telemetry-bench"


def document(run: str, first: int, count: int) -> bytes:
    """One OTLP/JSON export of spans first … first + count - 1."""
    now = time.time_ns()
    spans = [
        {
            "traceId": f"{run}{(first + index) // SPANS_PER_TRACE:024x}",
            "spanId": f"{run}{first + index:08x}",
            "name": "POST /api/agent/session",
            "kind": 2,
            "startTimeUnixNano": str(now - 20_000_000),
            "endTimeUnixNano": str(now),
            "attributes": [
                {"key": "http.request.method", "value": {"stringValue": "POST"}},
                {"key": "http.route", "value": {"stringValue": "/api/agent/session"}},
                {"key": "http.response.status_code", "value": {"intValue": "200"}},
            ],
        }
        for index in range(count)
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": SERVICE}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode()


class Sender:
    """One connection, made anew after every failure."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._path = parts.path
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes) -> str:
        """`200` when all spans were accepted, otherwise why not."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return type(error).__name__
        if answer.status != http.client.OK:
            return str(answer.status)
        rejected = json.loads(text or b"{}").get("partialSuccess", {}).get("rejectedSpans", 0)
        return f"{rejected} rejected" if int(rejected) else "200"


def main(asked: dict[str, Any]) -> None:
    """Send; the schedule is kept by the clock, so that an outage delays exports but leaves none out."""
    run, batch, rate = str(asked["run"]), int(asked["batch"]), float(asked["rate"])
    seconds, grace = float(asked["seconds"]), float(asked["grace"])
    sender = Sender(asked["url"])
    began = time.monotonic()
    waiting: deque[tuple[int, bytes]] = deque()
    due = 1
    while True:
        at = time.monotonic() - began
        while (due - 1) / rate <= min(at, seconds):
            waiting.append((due, document(run, due, batch)))
            due += batch
        if (at > seconds and not waiting) or at > seconds + grace:
            return
        if not waiting:
            time.sleep(max(0.0, min((due - 1) / rate, seconds + 0.001) - at))
            continue
        first, body = waiting[0]
        answer = sender.send(body)
        line = {
            "at": round(time.monotonic() - began, 3),
            "first": first,
            "spans": batch,
            "answer": answer,
        }
        print(json.dumps(line), flush=True)
        if answer == "200":
            waiting.popleft()
        else:
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
