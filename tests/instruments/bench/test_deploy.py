"""How the benchmark of deploys judges what it measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import deploy
from tests.bench.deploy import Measured, Plan, judge
from tests.bench.harness import Result
from tests.load.ledger import OK, End, Entry, Header, Ledger
from tests.load.plan import Kind
from tests.load.plan import Plan as LoadPlan
from tests.load.plot import timeline
from tests.load.report import Report, Window
from tests.load.writes import Written

RATE = 102
PLAN = Plan(2, 1, 2000, 60.0)
OLD, ONE, TWO = "a" * 40, "b" * 40, "c" * 40
FIRST, SECOND = Window(ONE, 2.0, 10.0), Window(TWO, 12.0, 20.0)
KINDS = (Kind.WHOAMI, Kind.HEALTH, Kind.WEBHOOK, Kind.HEALTH)


def release(at: float) -> str:
    """Taken over 4 s after each command."""
    return TWO if at >= 16 else ONE if at >= 6 else OLD


def entry(number: int) -> Entry:
    at, stream = number / RATE, number % 100 == 99
    kind = Kind.STREAM if stream else KINDS[number % 4]
    fresh = number % 2 == 0
    return Entry(
        number=number,
        kind=kind,
        client=0,
        fresh=fresh,
        opened=fresh,
        scheduled=at,
        started=at,
        ended=at + (5 if stream else 0.01),
        answered=at + 0.01,
        status=200,
        outcome=OK,
        release=release(at) if kind is Kind.HEALTH else None,
        key=f"load-0badcafe-{number}" if kind is Kind.WEBHOOK else None,
    )


ALL_THERE = Written(500, (), 0)
ENTRIES = tuple(entry(number) for number in range(22 * RATE))


def measured(
    entries: tuple[Entry, ...] = ENTRIES,
    windows: tuple[Window, ...] = (FIRST, SECOND),
    written: Written = ALL_THERE,
    failures: tuple[str, ...] = (),
) -> Measured:
    header = Header("0badcafe", LoadPlan(rate=RATE), 0.0)
    report = Report(Ledger(header, entries, End(len(entries), "asked to stop", 1.0)), windows)
    return Measured(report, written, failures)


def lost(*numbers: int) -> tuple[Entry, ...]:
    return tuple(replace(one, outcome="status 502") if one.number in numbers else one for one in ENTRIES)


RECREATED = measured(lost(*range(300, 500)), (Window("recreate", 2.5, 8.0),))


def broken(result: Result) -> set[str]:
    return {name for name, bar in result.bars.items() if not bar.holds}


def test_deploys_that_lose_nothing_hold_every_bar() -> None:
    result = judge(PLAN, measured(), RECREATED)
    assert broken(result) == set()
    assert result.figures["deploy: command to full traffic"].values == pytest.approx((4, 4), abs=0.05)
    assert result.figures["compose: lost in a window"].values == (200,)
    assert result.bars["command to full traffic, slowest"].want == pytest.approx(15)


@pytest.mark.parametrize(
    ("deployed", "bars"),
    [
        (measured(lost(700)), {"requests lost"}),
        (measured(written=Written(1, ("load-0badcafe-2",), 0)), {"acknowledged writes missing"}),
        (measured(written=Written(1, (), 1)), {"writes made again"}),
        (measured(failures=("deploy of sha256:0: 2",)), {"deploys that did not end well"}),
        (
            measured(windows=(FIRST,)),
            {"deploys", "deploys after which the release answered everything"},
        ),
        (
            measured(windows=(FIRST, replace(SECOND, began=15.5))),
            {"fewest requests inside a deploy"},
        ),
        (
            measured(windows=(FIRST, replace(SECOND, name=OLD))),
            {"deploys after which the release answered everything"},
        ),
        (
            measured(tuple(replace(one, started=one.started + 0.3) for one in ENTRIES)),
            {"reasons why the load proves nothing"},
        ),
        (
            measured(ENTRIES[: 15 * RATE], windows=(FIRST,)),
            {"deploys", "deploys after which the release answered everything", "requests in all"},
        ),
    ],
)
def test_each_thing_that_is_wrong_breaks_its_bar(deployed: Measured, bars: set[str]) -> None:
    assert broken(judge(PLAN, deployed, RECREATED)) == bars


def test_a_slow_deploy_breaks_its_bar() -> None:
    slow = measured(windows=(FIRST, replace(SECOND, began=0.5)))
    assert broken(judge(PLAN, slow, RECREATED)) == {"command to full traffic, slowest"}


def test_the_long_form_is_what_the_issue_asks_for() -> None:
    assert (deploy.LONG.deploys, deploy.LONG.requests) == (20, 30_000)
    assert deploy.LEAST_IN_WINDOW == 500
    assert LoadPlan().rate >= deploy.LEAST_RATE == 100


def test_runs_are_drawn_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "timeline.png"
    timeline(file, "both", {"deploy": measured().report, "compose": RECREATED.report})
    assert file.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no request"):
        timeline(file, "none", {"deploy": measured(()).report})
