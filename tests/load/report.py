"""What a ledger says: losses, latency inside and outside windows, and whether the run proves anything."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tests.load.generator import FOREIGN
from tests.load.ledger import Entry, Ledger
from tests.load.plan import WRITES, Kind

LATE_SECONDS = 0.1
MOST_LATE = 0.01
"""Share of requests that may be sent later than LATE_SECONDS after they were due."""
LATEST_SECONDS = 1.0
"""No request may be sent later than this."""
LEAST_RATE = 0.99
"""Part of the planned rate that must have been sent."""
KEPT_TOLERANCE = 0.1
"""By how much the share of requests on connections that were used before may differ from the plan."""
LEAST_STREAM = 0.9
"""Part of the planned length that the shorter half of the streams must have."""


@dataclass(frozen=True)
class Window:
    """Time of an operation, on the monotonic clock."""

    name: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """Length."""
        return self.ended - self.began


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; 0 of no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def latencies(entries: Iterable[Entry]) -> list[float]:
    """Seconds from due to answered, of all but streams, whose length is planned."""
    return [entry.latency for entry in entries if entry.kind is not Kind.STREAM]


class Report:
    """A ledger, and the windows in which something was done meanwhile."""

    def __init__(self, ledger: Ledger, windows: Iterable[Window] = ()) -> None:
        self.ledger = ledger
        self.windows = tuple(windows)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Requests in the order in which they were due."""
        return tuple(sorted(self.ledger.entries, key=lambda entry: entry.number))

    @property
    def failed(self) -> list[Entry]:
        """Requests that were not answered as they must be."""
        return [entry for entry in self.entries if not entry.ok]

    @property
    def reasons(self) -> Counter[str]:
        """Failed requests by kind and reason."""
        return Counter(f"{entry.kind}: {entry.outcome}" for entry in self.failed)

    @property
    def acknowledged(self) -> list[str]:
        """Keys of the writes that were acknowledged."""
        return [entry.key for entry in self.entries if entry.ok and entry.kind in WRITES and entry.key]

    @property
    def seconds(self) -> float:
        """From the first request due to the last one."""
        return self.entries[-1].scheduled - self.entries[0].scheduled if self.entries else 0.0

    @property
    def rate(self) -> float:
        """Requests/s that were really sent."""
        sent = [entry.started for entry in self.entries]
        length = max(sent) - min(sent) if len(sent) > 1 else 0.0
        return (len(sent) - 1) / length if length else 0.0

    @property
    def kept_share(self) -> float:
        """Share of the requests that went over a connection that had been used before."""
        return sum(not entry.opened for entry in self.entries) / len(self.entries) if self.entries else 0.0

    @property
    def cpu_share(self) -> float | None:
        """Part of a core that the generator took; None where it was killed."""
        return self.ledger.end.cpu / self.seconds if self.ledger.end and self.seconds else None

    def inside(self, window: Window) -> list[Entry]:
        """Requests that were due within a window."""
        return [entry for entry in self.entries if window.began <= entry.scheduled <= window.ended]

    def during(self) -> list[Entry]:
        """Requests that were due within any window."""
        return [entry for entry in self.entries if self._within(entry)]

    def outside(self) -> list[Entry]:
        """Requests that were due outside all windows."""
        return [entry for entry in self.entries if not self._within(entry)]

    def _within(self, entry: Entry) -> bool:
        return any(window.began <= entry.scheduled <= window.ended for window in self.windows)

    def taken_over(self, release: str, window: Window) -> float | None:
        """Seconds into a window after which every new request was answered by `release`; None: never."""
        told = [entry for entry in self.inside(window) if entry.release]
        others = [index for index, entry in enumerate(told) if entry.release != release]
        first = others[-1] + 1 if others else 0
        return told[first].scheduled - window.began if first < len(told) else None

    def invalid(self, most_late: float = MOST_LATE) -> list[str]:
        """Why the run proves nothing, a sentence a reason; empty where it does.

        `most_late` is the share of requests that may be somewhat late: latencies need it small, losses don't.
        """
        end, plan = self.ledger.end, self.ledger.header.plan
        if end is None:
            return ["the generator was killed: what was in flight is unknown"]
        if not self.entries:
            return ["no request was sent"]
        reasons = []
        if end.reason == FOREIGN:
            reasons.append("the name led to an address that is not the project's")
        if end.sent != len(self.entries):
            reasons.append(f"{end.sent} requests were sent, {len(self.entries)} are in the ledger")
        if end.sent > 1 and self.rate < LEAST_RATE * plan.rate:
            reasons.append(f"sent {self.rate:.1f} requests/s instead of {plan.rate:g}")
        lateness = [entry.lateness for entry in self.entries]
        late = sum(value > LATE_SECONDS for value in lateness) / len(lateness)
        if late > most_late or max(lateness) > LATEST_SECONDS:
            reasons.append(
                f"the generator fell behind: {late:.1%} of the requests were sent more than "
                f"{LATE_SECONDS:g} s late, the latest {max(lateness):.2f} s"
            )
        reasons.extend(self._unlike_the_plan())
        return reasons

    def _unlike_the_plan(self) -> list[str]:
        plan = self.ledger.header.plan
        reasons = []
        enough = len(self.entries) > 10 * plan.kept_connections * plan.clients
        if enough and abs(self.kept_share - (1 - plan.fresh)) > KEPT_TOLERANCE:
            reasons.append(
                f"{self.kept_share:.0%} of the requests went over kept connections, "
                f"planned are {1 - plan.fresh:.0%}"
            )
        streams = [
            entry.ended - entry.started for entry in self.entries if entry.kind is Kind.STREAM and entry.ok
        ]
        if streams and statistics.median(streams) < LEAST_STREAM * plan.stream_seconds:
            reasons.append(
                f"streams took {statistics.median(streams):.1f} s, planned are {plan.stream_seconds:g} s"
            )
        return reasons

    def summary(self) -> list[str]:
        """A few lines for people."""
        lateness = [entry.lateness for entry in self.entries]
        latency = latencies(self.entries)
        lines = [
            f"run {self.ledger.header.run}: {len(self.entries)} requests at {self.rate:.1f}/s, "
            f"{self.kept_share:.0%} over kept connections, {len(self.failed)} failed",
            f"p50 {percentile(latency, 0.5) * 1000:.1f} ms, p99 {percentile(latency, 0.99) * 1000:.1f} ms; "
            f"generator late by p99 {percentile(lateness, 0.99) * 1000:.1f} ms, "
            f"at most {max(lateness, default=0) * 1000:.0f} ms, {self.cpu_share or 0:.0%} of a core",
        ]
        lines += [f"{count} times {reason}" for reason, count in self.reasons.most_common()]
        return lines + [f"INVALID: {reason}" for reason in self.invalid()]
