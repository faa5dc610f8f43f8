"""A stop loses no request (DEP-1): real processes, real connections, real signals."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

Start = Callable[[float, float], tuple[subprocess.Popen[bytes], httpx.Client]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return how to start the process with a grace and a limit, in seconds."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(grace: float, limit: float) -> tuple[subprocess.Popen[bytes], httpx.Client]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        module = "tests.integration.reference_service.slow_service"
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(port), str(grace), str(limit)], stdout=subprocess.DEVNULL
        )
        running.append(process)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)
        deadline = time.monotonic() + 20
        while True:
            try:
                client.get("/health")
            except httpx.ConnectError:
                assert time.monotonic() < deadline, "the process does not answer"
                time.sleep(0.05)
            else:
                return process, client

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def test_garbage_is_collected_while_it_serves(start: Start) -> None:
    _, client = start(0.5, 10)
    assert client.get("/health").json()["collects_garbage"]


def test_what_is_in_flight_ends_and_the_status_is_zero(start: Start) -> None:
    process, client = start(0.5, 10)
    with client.stream("GET", "/stream/1.5") as response:
        lines = response.iter_lines()
        assert next(lines) == "begin"
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 2
        while not (health := client.get("/health")).json()["draining"]:
            assert time.monotonic() < deadline
        assert health.headers["Connection"] == "close", "new requests are still answered"
        assert list(lines) == ["end"]
    assert process.wait(5) == 0


def test_an_idle_process_ends_after_its_grace(start: Start) -> None:
    process, client = start(0.5, 10)
    client.get("/health")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert 0.4 < time.monotonic() - started < 3, "an idle keep-alive connection holds nothing up"


def test_the_limit_ends_what_does_not_end(start: Start) -> None:
    process, client = start(0.1, 0.6)
    with pytest.raises(httpx.RemoteProtocolError), client.stream("GET", "/stream/60") as response:
        lines = response.iter_lines()
        assert next(lines) == "begin"
        process.send_signal(signal.SIGTERM)
        list(lines)
    assert process.wait(5) == 0


def test_a_second_signal_ends_at_once(start: Start) -> None:
    process, client = start(30, 60)
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 5
    while not client.get("/health").json()["draining"]:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
