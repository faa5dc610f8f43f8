"""Runs side by side over time: what was answered, what was lost, how long it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

from tests.load.plan import Kind
from tests.load.report import Report, percentile

mpl.use("Agg")
from matplotlib import pyplot as plt


def timeline(path: Path, title: str, runs: Mapping[str, Report]) -> None:
    """Draw each run, by name, in a column of its own; windows are shaded. Seconds count from its start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fig, axes = plt.subplots(
        2, len(runs), figsize=(7 * len(runs), 7), sharey="row", squeeze=False, layout="constrained"
    )
    for column, (name, report) in enumerate(runs.items()):
        if not report.entries:
            raise ValueError(f"run {name!r} has no request to draw")
        zero = report.entries[0].scheduled
        seconds = range(int(report.seconds) + 1)
        answered: Counter[int] = Counter()
        lost: Counter[int] = Counter()
        latency: dict[int, list[float]] = {}
        for entry in report.entries:
            second = int(entry.scheduled - zero)
            (answered if entry.ok else lost)[second] += 1
            if entry.kind is not Kind.STREAM:
                latency.setdefault(second, []).append(entry.latency * 1000)
        upper, lower = axes[0][column], axes[1][column]
        upper.stackplot(
            seconds,
            [answered[second] for second in seconds],
            [lost[second] for second in seconds],
            labels=("answered", "lost"),
            colors=("tab:green", "tab:red"),
            step="post",
            alpha=0.8,
        )
        upper.set_title(f"{name}: {len(report.failed)} of {len(report.entries)} requests lost")
        for share, color in ((0.5, "tab:blue"), (0.99, "tab:orange")):
            values = [percentile(latency.get(second, []), share) for second in seconds]
            lower.plot(seconds, values, color=color, label=f"p{share * 100:g}", linewidth=0.8)
        lower.set_yscale("log")
        lower.set_xlabel("s")
        for axis in (upper, lower):
            for window in report.windows:
                axis.axvspan(window.began - zero, window.ended - zero, color="tab:gray", alpha=0.2)
            axis.set_xlim(0, max(1.0, report.seconds))
            axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("requests due in a second")
    axes[1][0].set_ylabel("ms from due to answered")
    axes[0][0].legend(loc="lower left")
    axes[1][0].legend(loc="upper left")
    fig.suptitle(title)
    fig.savefig(path, dpi=110)
    plt.close(fig)
