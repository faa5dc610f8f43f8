"""Progress of what takes long: one line a job on a terminal, otherwise a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

# A job that has said nothing for this long says so, where there is no terminal to redraw.
HEARTBEAT = 20.0


@dataclass
class _Job:
    phase: str = "start"
    began: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)


class Progress:
    """Shows jobs while they run; safe to call from threads."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show jobs until the block ends."""
        if self._console.is_terminal:
            with Live(
                console=self._console, get_renderable=self._table, refresh_per_second=2, transient=True
            ):
                yield
            return
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(over,), daemon=True)
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()

    @contextmanager
    def job(self, name: str) -> Iterator[None]:
        """Show the job `name` while the block runs, and how long it took."""
        with self._lock:
            job = self._jobs[name] = _Job()
        try:
            yield
        except BaseException:
            self._say(name, "failed", job.began)
            raise
        else:
            self._say(name, "done", job.began)
        finally:
            with self._lock:
                self._jobs.pop(name, None)

    def phase(self, name: str, phase: str) -> None:
        """Tell what the job `name` is doing now."""
        with self._lock:
            job = self._jobs.get(name)
            if job is not None:
                job.phase = phase

    def _say(self, name: str, what: str, began: float) -> None:
        now = time.monotonic()
        line = f"[{now - self._began:5.0f} s] {name}: {what} ({now - began:.0f} s)"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(1):
            now = time.monotonic()
            with self._lock:
                due = [(name, job) for name, job in self._jobs.items() if now - job.said >= HEARTBEAT]
                for _, job in due:
                    job.said = now
            for name, job in due:
                self._say(name, job.phase, job.began)

    def _table(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        with self._lock:
            for name, job in self._jobs.items():
                grid.add_row(name, job.phase, f"{time.monotonic() - job.began:.0f} s")
        return grid
