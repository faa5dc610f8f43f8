"""The generator as a process: told by its standard input, ended with it, renewed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from infra import paths
from tests.instruments.load.double import Double, Fault, credentials
from tests.load import ledger, process
from tests.load.generator import ASKED, PLANNED
from tests.load.order import Order
from tests.load.plan import Kind, Plan
from tests.load.process import LoadError, running
from tests.load.report import Report

PLAN = Plan(
    rate=50,
    seconds=30,
    stream_seconds=0.2,
    timeout=2,
    mix={Kind.WHOAMI: 5, Kind.HEALTH: 2, Kind.WEBHOOK: 2, Kind.STREAM: 1},
)


@pytest.fixture
def served(double: Double) -> Iterator[Double]:
    with double.in_thread():
        yield double


def test_a_run_with_windows(served: Double, tmp_path: Path) -> None:
    with running(PLAN, served.target(), credentials(), directory=tmp_path) as load:
        load.await_requests(20)
        with load.window("switch"):
            served.release = "b" * 40
            load.await_requests(60)
        load.await_requests(20)
        report = load.finish()
    assert report.failed == []
    assert report.ledger.end is not None
    assert report.ledger.end.reason == ASKED
    (window,) = report.windows
    assert len(report.inside(window)) + len(report.outside()) == len(report.entries)
    assert len(report.inside(window)) >= 50
    seconds = report.taken_over("b" * 40, window)
    assert seconds is not None
    assert seconds < 0.5
    assert report.taken_over("a" * 40, window) is None
    assert set(served.messages) == set(report.acknowledged)


def test_the_plan_ends_by_itself(served: Double, tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"seconds": 1.0})
    with running(plan, served.target(), credentials(), directory=tmp_path) as load:
        load._process.wait(20)
        report = load.finish()
    assert len(report.entries) == 50
    assert report.ledger.end is not None
    assert report.ledger.end.reason == PLANNED


def test_a_new_token_is_used(served: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_NEW_TOKEN_SECONDS", 0.2)
    begun, asked = threading.Event(), threading.Event()

    def new_token() -> str:
        begun.wait()
        if not asked.is_set():
            asked.set()
            raise ConnectionError("the login is away for a moment")
        return "second"

    with running(PLAN, served.target(), credentials(), new_token, tmp_path) as load:
        begun.set()
        load.await_requests(80)
        report = load.finish()
    assert report.failed == []
    assert served.tokens == {"Bearer first", "Bearer second", ""}


def order(double: Double, file: Path) -> str:
    made = Order(run="0badcafe", plan=PLAN, target=double.target(), credentials=credentials(), ledger=file)
    document = made.model_dump(mode="json", exclude={"credentials"})
    return json.dumps({**document, "credentials": asdict(credentials())})


def started(text: str) -> subprocess.Popen[str]:
    begun = subprocess.Popen(
        [sys.executable, "-m", "tests.load"],
        cwd=paths.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert begun.stdin
    begun.stdin.write(text + "\n")
    begun.stdin.flush()
    return begun


def await_ended(begun: subprocess.Popen[str], wanted: int) -> None:
    assert begun.stdout
    for line in begun.stdout:
        if json.loads(line)["ended"] >= wanted:
            return
    raise AssertionError("the generator has ended")


@pytest.mark.parametrize("how", ["end of input", "SIGTERM"])
def test_it_ends_in_order_when_asked(served: Double, tmp_path: Path, how: str) -> None:
    file = tmp_path / "ledger.jsonl"
    with started(order(served, file)) as begun:
        await_ended(begun, 20)
        if how == "SIGTERM":
            os.kill(begun.pid, signal.SIGTERM)
        elif begun.stdin:
            begun.stdin.close()
        assert begun.wait(20) == 0
    report = Report(ledger.read(file))
    assert report.failed == []
    assert report.ledger.end is not None
    assert report.ledger.end.reason == ASKED


def test_a_killed_generator_proves_nothing(served: Double, tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with started(order(served, file)) as begun:
        await_ended(begun, 20)
        begun.kill()
    report = Report(ledger.read(file))
    assert len(report.entries) >= 20
    assert report.invalid() == ["the generator was killed: what was in flight is unknown"]


def test_failures_show_while_it_runs(served: Double, tmp_path: Path) -> None:
    served.faults["whoami"] = Fault.UNAVAILABLE
    with running(PLAN, served.target(), credentials(), directory=tmp_path) as load:
        load.await_requests(60)
        assert load.failed >= 10
        report = load.finish()
    assert set(report.reasons) == {"whoami: status 503"}


def test_a_generator_that_does_not_start_says_why(double: Double, tmp_path: Path) -> None:
    double.port = 9
    (tmp_path / "taken").write_text("")
    with (
        pytest.raises(LoadError, match="FileExistsError"),
        running(PLAN, double.target(), credentials(), directory=tmp_path / "taken"),
    ):
        pass


def test_no_secret_is_in_the_ledger(served: Double, tmp_path: Path) -> None:
    with running(PLAN, served.target(), credentials("a-token"), directory=tmp_path) as load:
        load.await_requests(20)
        load.finish()
    (file,) = tmp_path.glob("*.jsonl")
    assert "a-token" not in file.read_text()
    assert credentials().webhook_secret not in file.read_text()
