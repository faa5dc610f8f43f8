"""The generator's process as benchmarks and tests handle it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra import paths
from tests.load import ledger
from tests.load.kinds import Credentials
from tests.load.order import Order
from tests.load.plan import Plan
from tests.load.report import Report, Window
from tests.load.wire import Target

OUTPUT = paths.REPOSITORY / "build" / "load"
START_SECONDS = 30.0
_GRACE_SECONDS = 30.0
_NEW_TOKEN_SECONDS = 120.0
_POLL = 0.05


class LoadError(Exception):
    """The generator does not run; the message has what it said last."""


class Load:
    """A running generator."""

    def __init__(self, process: subprocess.Popen[str], order: Order) -> None:
        self._process = process
        self._order = order
        self._windows: list[Window] = []
        self._progress: dict[str, int] = {}
        self._errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._read_progress, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_progress(self) -> None:
        for line in self._process.stdout or ():
            self._progress = json.loads(line)

    def _read_errors(self) -> None:
        self._errors.extend(self._process.stderr or ())

    @property
    def run(self) -> str:
        """Mark of the run."""
        return self._order.run

    @property
    def ended(self) -> int:
        """Requests that have ended, a second ago at most."""
        return self._progress.get("ended", 0)

    @property
    def failed(self) -> int:
        """Those of them that failed."""
        return self._progress.get("failed", 0)

    def await_requests(self, more: int, seconds: float = START_SECONDS) -> None:
        """Wait until `more` requests have ended since now; LoadError where they don't in time."""
        wanted, deadline = self.ended + more, time.monotonic() + seconds
        while self.ended < wanted:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LoadError(self._said(f"{self.ended} of {wanted} requests ended"))
            time.sleep(_POLL)

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Mark the time of an operation, whether or not it succeeds."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._windows.append(Window(name, began, time.monotonic()))

    def tell(self, token: str) -> None:
        """Use another token from now on."""
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps({"token": token}) + "\n")
                self._process.stdin.flush()

    def finish(self) -> Report:
        """Send no more, await what is in flight, and read the ledger; LoadError where the generator broke."""
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        plan = self._order.plan
        try:
            self._process.wait(plan.timeout + plan.stream_seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LoadError(self._said("the generator does not end")) from error
        for thread in self._threads:
            thread.join()
        if self._process.returncode:
            raise LoadError(self._said(f"the generator ended with {self._process.returncode}"))
        return Report(ledger.read(self._order.ledger), self._windows)

    def _said(self, what: str) -> str:
        return "\n".join([what, *(line.rstrip() for line in self._errors[-10:])])


@contextmanager
def running(
    plan: Plan,
    target: Target,
    credentials: Credentials,
    new_token: Callable[[], str] | None = None,
    directory: Path = OUTPUT,
) -> Iterator[Load]:
    """Load on a target until the block ends, or the plan does; the first answers are there when it begins.

    `new_token` gives a token that is good for another few minutes.

    Raises:
        LoadError: the generator does not run.
    """
    run = secrets.token_hex(4)
    order = Order(
        run=run, plan=plan, target=target, credentials=credentials, ledger=directory / f"{run}.jsonl"
    )
    document: dict[str, Any] = {
        **order.model_dump(mode="json", exclude={"credentials"}),
        "credentials": asdict(credentials),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.load"],
        cwd=paths.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        over = threading.Event()
        try:
            with suppress(BrokenPipeError):
                assert process.stdin
                process.stdin.write(json.dumps(document) + "\n")
                process.stdin.flush()
            load = Load(process, order)
            if new_token:
                threading.Thread(target=_renew, args=(load, new_token, over), daemon=True).start()
            load.await_requests(1)
            yield load
        finally:
            over.set()
            if process.poll() is None:
                process.kill()


def _renew(load: Load, new_token: Callable[[], str], over: threading.Event) -> None:
    """A token that can't be had now is asked for again: the one in use is good for longer than one pause."""
    while not over.wait(_NEW_TOKEN_SECONDS):
        with suppress(Exception):
            load.tell(new_token())
