"""Base of every benchmark: figures, bars, a table, JSON and a plot.

A benchmark is a module `tests/bench/<name>.py` with `run(options) -> Result`, started by
`make bench NAME=<name>`.
"""

from __future__ import annotations

import json
import operator
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

mpl.use("Agg")
from matplotlib import pyplot as plt

OUTPUT = Path("build/bench")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Figure:
    """What was measured: one value, or a sample given by n, min, median and max."""

    values: tuple[float, ...]
    unit: str

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a figure needs at least one measured value")

    @property
    def median(self) -> float:
        """Median of the sample."""
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        """One value as `value`, several as n/min/median/max."""
        if len(self.values) == 1:
            return {"value": self.values[0], "unit": self.unit}
        return {
            "n": len(self.values),
            "min": min(self.values),
            "median": self.median,
            "max": max(self.values),
            "unit": self.unit,
        }


@dataclass(frozen=True)
class Bar:
    """A limit that an issue sets: it holds when `got <comparison> want`."""

    comparison: str
    want: float
    got: float

    @property
    def holds(self) -> bool:
        """Whether the measured value is within the limit."""
        return COMPARISONS[self.comparison](self.got, self.want)

    def as_json(self) -> dict[str, Any]:
        """Want as text with its comparison, the measured value, and the verdict."""
        return {"want": f"{self.comparison} {self.want:g}", "got": self.got, "holds": self.holds}


@dataclass
class Result:
    """All figures and bars of one benchmark."""

    figures: dict[str, Figure] = field(default_factory=dict)
    bars: dict[str, Bar] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def sample(self, name: str, values: Sequence[float], unit: str) -> Figure:
        """Add a figure and return it."""
        figure = Figure(tuple(float(v) for v in values), unit)
        self.figures[name] = figure
        return figure

    def bar(self, name: str, got: float, comparison: str, want: float) -> Bar:
        """Add a bar and return it."""
        bar = Bar(comparison, float(want), float(got))
        self.bars[name] = bar
        return bar


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action took; its failure is the benchmark's failure."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def _print(name: str, result: Result) -> None:
    console = Console()
    table = Table(title=f"bench {name}")
    for column in ("figure", "n", "min", "median", "max", "unit"):
        table.add_column(column, justify="left" if column in {"figure", "unit"} else "right")
    for figure_name, figure in result.figures.items():
        table.add_row(
            figure_name,
            str(len(figure.values)),
            *(f"{v:.3f}" for v in (min(figure.values), figure.median, max(figure.values))),
            figure.unit,
        )
    console.print(table)
    bars = Table(title="bars")
    for column in ("bar", "want", "got", "holds"):
        bars.add_column(column)
    for bar_name, bar in result.bars.items():
        bars.add_row(
            bar_name, f"{bar.comparison} {bar.want:g}", f"{bar.got:.3f}", "yes" if bar.holds else "NO"
        )
    console.print(bars)
    for note in result.notes:
        console.print(note)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _plot(name: str, result: Result, path: Path) -> None:
    by_unit: dict[str, dict[str, Figure]] = {}
    for figure_name, figure in result.figures.items():
        by_unit.setdefault(figure.unit, {})[figure_name] = figure
    fig, axes = plt.subplots(
        len(by_unit),
        1,
        figsize=(10, 1 + 0.4 * len(result.figures) + 0.8 * len(by_unit)),
        squeeze=False,
        height_ratios=[len(chosen) + 1 for chosen in by_unit.values()],
        layout="constrained",
    )
    for axis, (unit, chosen) in zip(axes[:, 0], by_unit.items(), strict=True):
        labels = [f"{label} ({_short(figure.median)})" for label, figure in chosen.items()]
        values = [list(figure.values) for figure in chosen.values()]
        axis.boxplot(values, orientation="horizontal", tick_labels=labels, widths=0.5)
        for row, sample in enumerate(values, start=1):
            axis.plot(sample, [row] * len(sample), ".", color="tab:blue", clip_on=False, zorder=3)
        axis.invert_yaxis()
        axis.set_xlabel(unit)
        axis.set_xlim(left=0, right=1.05 * max(max(sample) for sample in values) or 1)
        axis.grid(axis="x", alpha=0.3)
    fig.suptitle(f"bench {name} (median)")
    fig.savefig(path, dpi=110)
    plt.close(fig)


def publish(name: str, result: Result, output: Path = OUTPUT) -> bool:
    """Print the tables, write `<output>/<name>.json` and `.png`; True when every bar holds.

    Raises:
        ValueError: the benchmark measured nothing, or judged nothing.
    """
    if not result.figures or not result.bars:
        raise ValueError(f"bench {name} gave no figure or no bar")
    output.mkdir(parents=True, exist_ok=True)
    document = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": {n: f.as_json() for n, f in result.figures.items()},
        "bars": {n: b.as_json() for n, b in result.bars.items()},
        "notes": result.notes,
    }
    (output / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    _plot(name, result, output / f"{name}.png")
    _print(name, result)
    return all(bar.holds for bar in result.bars.values())
