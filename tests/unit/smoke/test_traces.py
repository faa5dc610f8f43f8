"""Finding a trace in what a backend has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.smoke.traces import ContainerSink, TempoSink, TraceSinkError, await_trace, spans_services

TRACE = "0af7651916cd43dd8448eb211c80319c"


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


def test_asks_tempo() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == f"/api/traces/{TRACE}"
        return httpx.Response(200, json={"batches": [batch("agents")]})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert TempoSink("https://tempo.example.com/", client).services(TRACE) == {"agents"}


@pytest.mark.parametrize(("status", "found"), [(404, set()), (500, None)])
def test_tempo_without_the_trace_or_out_of_order(status: int, found: set[str] | None) -> None:
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(status))) as client:
        sink = TempoSink("https://tempo.example.com", client)
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
