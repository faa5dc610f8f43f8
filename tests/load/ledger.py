"""The account of every request: JSON lines, each written when its request has ended.

The first line is the header, the last one the end; without an end the generator was killed and what was in
flight is unknown, so that such a ledger proves nothing. Times are seconds of this machine's monotonic clock,
which other processes on it share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from tests.load.plan import Kind, Plan

OK = "ok"


class LedgerError(Exception):
    """A file is no ledger; the message names the line."""


@dataclass(frozen=True)
class Entry:
    """One request. `outcome` is `ok`, or why it failed; `opened`: its connection was made for it.

    `answered` is when the head of the answer came, `release` and `region` who answered, where it said so.
    `key` identifies a write.
    """

    number: int
    kind: Kind
    client: int
    fresh: bool
    opened: bool
    scheduled: float
    started: float
    ended: float
    answered: float | None
    status: int | None
    outcome: str
    address: str | None = None
    release: str | None = None
    region: str | None = None
    key: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it was answered as it must be."""
        return self.outcome == OK

    @property
    def latency(self) -> float:
        """Seconds from when it was due, not from when it was sent."""
        return self.ended - self.scheduled

    @property
    def lateness(self) -> float:
        """Seconds by which the generator itself was late."""
        return self.started - self.scheduled


@dataclass(frozen=True)
class Header:
    """A run: its mark, its plan, and the wall clock's time at 0 of the monotonic clock."""

    run: str
    plan: Plan
    wall: float


@dataclass(frozen=True)
class End:
    """How many requests were sent, why the run ended, and the processor seconds that the generator took."""

    sent: int
    reason: str
    cpu: float


@dataclass(frozen=True)
class Ledger:
    """What a file holds; `end` is None where the generator was killed."""

    header: Header
    entries: tuple[Entry, ...]
    end: End | None


class Writer:
    """Appends lines; each is in the file when the call returns."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def _line(self, what: str, values: dict[str, Any]) -> None:
        self._file.write(json.dumps({"line": what, **values}) + "\n")

    def header(self, header: Header) -> None:
        """Write the first line."""
        plan = header.plan.model_dump(mode="json")
        self._line("header", {"run": header.run, "plan": plan, "wall": header.wall})

    def entry(self, entry: Entry) -> None:
        """Write one request."""
        self._line("request", asdict(entry))

    def end(self, end: End) -> None:
        """Write the last line."""
        self._line("end", asdict(end))


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A new ledger at `path`; FileExistsError where there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", buffering=1) as file:
        yield Writer(file)


def read(path: Path) -> Ledger:
    """The ledger at `path`; a last line that was cut off by a kill is left out.

    Raises:
        LedgerError: there is no header, or a line that is none of a ledger's.
    """
    header: Header | None = None
    end: End | None = None
    entries: list[Entry] = []
    for number, text in enumerate(path.read_text().splitlines(keepends=True), start=1):
        if not text.endswith("\n"):
            break
        try:
            values = json.loads(text)
            kind = values.pop("line")
            if kind == "header":
                header = Header(values["run"], Plan.model_validate(values["plan"]), values["wall"])
            elif kind == "request":
                entries.append(Entry(**{**values, "kind": Kind(values["kind"])}))
            else:
                end = End(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{path}:{number}: not a line of a ledger: {error}") from error
    if header is None:
        raise LedgerError(f"{path}: no header")
    return Ledger(header, tuple(entries), end)
