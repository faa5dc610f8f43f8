"""What every benchmark leaves behind, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.bench import __main__ as bench
from tests.bench.harness import Result, publish

PNG = b"\x89PNG\r\n"


def result(lost: int) -> Result:
    made = Result()
    made.sample("up", [3.0, 1.0, 2.0], "s")
    made.sample("lost", [lost], "spans")
    made.bar("spans lost", lost, "==", 0)
    made.bar("up, median s", made.figures["up"].median, "<=", 6)
    return made


def test_figures_and_bars_are_written(tmp_path: Path) -> None:
    assert publish("example", result(lost=0), tmp_path)
    document = json.loads((tmp_path / "example.json").read_text())
    assert document["figures"] == {
        "up": {"n": 3, "min": 1.0, "median": 2.0, "max": 3.0, "unit": "s"},
        "lost": {"value": 0.0, "unit": "spans"},
    }
    assert document["bars"] == {
        "spans lost": {"want": "== 0", "got": 0.0, "holds": True},
        "up, median s": {"want": "<= 6", "got": 2.0, "holds": True},
    }
    assert (tmp_path / "example.png").read_bytes().startswith(PNG)


def test_a_benchmark_that_judges_nothing_is_none(tmp_path: Path) -> None:
    empty = Result()
    empty.sample("up", [1.0], "s")
    with pytest.raises(ValueError, match="no bar"):
        publish("example", empty, tmp_path)


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (1, 1)])
def test_the_exit_code_says_whether_every_bar_holds(
    lost: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("tests.bench.example")
    module.run = lambda *, short: result(lost)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.bench.example", module)
    monkeypatch.setattr(bench, "names", lambda: ["example"])
    monkeypatch.setattr(sys, "argv", ["bench", "example"])
    monkeypatch.chdir(tmp_path)
    assert bench.main() == code
    assert json.loads((tmp_path / "build/bench/example.json").read_text())["name"] == "example"
