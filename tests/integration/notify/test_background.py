"""One deliverer a stack and machine; what is queued while it ends is not left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import paths
from infra.notify import background
from infra.notify.delivery import Deliverer
from infra.notify.outbox import Outbox
from tests.unit.notify.conftest import Slack, Write

STACK = "local"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_second_one_leaves_the_work_to_the_first(
    deliverer: Deliverer, outbox: Outbox, double: Slack, write: Write
) -> None:
    outbox.put(write("a"))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from infra.notify import background; import sys, time\n"
            f"with background._alone({STACK!r}) as alone:\n"
            "    print(alone, flush=True); sys.stdin.read()",
        ],
        cwd=paths.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert not background.deliver(STACK, deliverer, 10)
    assert double.calls == []
    holder.kill()
    holder.wait()
    assert background.deliver(STACK, deliverer, 10)
    assert double.titles("deployments") == ["a"]


def test_it_looks_once_more_after_it_gave_its_lock_back(
    deliverer: Deliverer, outbox: Outbox, double: Slack, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put(write("a"))
    late = [write("b")]
    until_empty: Callable[[float], bool] = deliverer.until_empty

    def ends(limit: float) -> bool:
        done = until_empty(limit)
        if late:
            # Queued after the last look, by somebody who then finds the lock taken.
            outbox.put(late.pop())
            assert not background.deliver(STACK, Deliverer(outbox, lambda _: "", double.client), 10)
        return done

    monkeypatch.setattr(deliverer, "until_empty", ends)
    assert background.deliver(STACK, deliverer, 10)
    assert double.titles("deployments") == ["a", "b"]


def test_it_is_started_in_a_session_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [
        sys.executable,
        "-c",
        "import os; print(os.getsid(0) == os.getpid(), os.getcwd())",
    ]
    popen = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def run(arguments: list[str], **options: object) -> object:
        assert arguments == [
            sys.executable, "-m", "infra.notify", "--stack", STACK, "deliver", "--background",
        ]  # fmt: skip
        started.append(popen(command, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", run)
    background.start(STACK)
    started[0].wait()
    assert background.log_file(STACK).read_text() == f"True {paths.REPOSITORY}\n"
    assert background.log_file(STACK).stat().st_mode & 0o777 == 0o600
