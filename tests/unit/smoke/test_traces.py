"""Finding a trace in what a backend has."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.config.model import Traces
from infra.smoke.traces import (
    ContainerSink,
    TempoSink,
    TraceSinkError,
    await_trace,
    open_sink,
    spans_services,
)
from tests.unit.smoke.test_checks import target

TRACE = "0af7651916cd43dd8448eb211c80319c"
QUERY = Traces(query_url="https://tempo.example.com/tempo", token="${secret:traces-query-token}")


def batch(service: str, trace_id: str = TRACE) -> dict[str, Any]:
    return {
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": [{"traceId": trace_id}]}],
    }


def test_names_the_services_of_a_trace_only() -> None:
    batches = [batch("agents"), batch("proxy"), batch("other", "f" * 32)]
    assert spans_services(batches, TRACE) == {"agents", "proxy"}


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "exec sink" ] && shift 2 && shift 3 && grep -F "$1" {tmp_path}/f\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "f"


def test_reads_lines_of_a_container(container: Path) -> None:
    lines = [{"resourceSpans": [batch("agents")]}, {"resourceSpans": [batch("other", "f" * 32)]}]
    container.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert ContainerSink("sink").services(TRACE) == {"agents"}
    assert ContainerSink("sink").services("e" * 32) == set()


def test_a_container_that_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'No such container: sink' >&2; exit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(TraceSinkError, match="No such container"):
        ContainerSink("sink").services(TRACE)


@pytest.mark.parametrize(
    ("username", "credentials"),
    [(None, "Bearer value-of-traces-query-token"), ("42", "Basic NDI6dmFsdWUtb2YtdHJhY2VzLXF1ZXJ5LXRva2Vu")],
)
def test_asks_tempo_with_the_token_that_the_stack_names(username: str | None, credentials: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url == f"https://tempo.example.com/tempo/api/traces/{TRACE}"
        assert request.headers["Authorization"] == credentials
        base64_id = base64.b64encode(bytes.fromhex(TRACE)).decode()
        return httpx.Response(200, json={"batches": [batch("agents"), batch("proxy", base64_id)]})

    query = QUERY.model_copy(update={"username": username})
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        sink = open_sink(target(trace_container=None, trace_query=query), lambda: client)
        assert sink is not None
        assert sink.services(TRACE) == {"agents", "proxy"}


def test_no_backend_is_asked_where_none_is_named() -> None:
    assert open_sink(target(trace_container=None, trace_query=None), httpx.Client) is None


def test_a_backend_that_is_away_is_an_error_without_the_token() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with (
        httpx.Client(transport=httpx.MockTransport(refuse)) as client,
        pytest.raises(TraceSinkError, match=r"tempo\.example\.com/tempo: refused") as caught,
    ):
        TempoSink(QUERY, "canary", client).services(TRACE)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("status", "found"), [(404, set()), (500, None)])
def test_tempo_without_the_trace_or_out_of_order(status: int, found: set[str] | None) -> None:
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(status))) as client:
        sink = TempoSink(QUERY, "token", client)
        if found is None:
            with pytest.raises(TraceSinkError, match="500"):
                sink.services(TRACE)
        else:
            assert sink.services(TRACE) == found


class Late:
    """Has the trace at the third question."""

    def __init__(self, *answers: set[str]) -> None:
        self.answers = list(answers)

    def services(self, trace_id: str) -> set[str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_waits_for_a_late_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.smoke.traces._POLL", 0.001)
    assert await_trace(Late(set(), {"proxy"}, {"proxy", "agents"}), TRACE, "agents", timeout=5) < 5


def test_says_who_sent_spans_when_the_service_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.smoke.traces._POLL", 0.001)
    with pytest.raises(TraceSinkError, match="only from proxy"):
        await_trace(Late({"proxy"}), TRACE, "agents", timeout=0.01)
