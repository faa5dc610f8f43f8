"""What a ledger says, and when it says nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.load import ledger
from tests.load.ledger import OK, End, Entry, Header, Ledger, LedgerError
from tests.load.plan import Kind, Plan
from tests.load.report import Report, Window, latencies, percentile
from tests.load.stack import MOST_LATE

PLAN = Plan(rate=10, seconds=60, mix={Kind.HEALTH: 1}, kept_connections=1)
OLD, NEW = "a" * 40, "b" * 40


def entry(number: int, **given: object) -> Entry:
    at = number / 10
    values: dict[str, object] = {
        "number": number,
        "kind": Kind.HEALTH,
        "client": 0,
        "fresh": number % 2 == 0,
        "opened": number % 2 == 0,
        "scheduled": at,
        "started": at + 0.001,
        "answered": at + 0.01,
        "ended": at + 0.02,
        "status": 200,
        "outcome": OK,
        "release": OLD,
    }
    return Entry(**{**values, **given})  # type: ignore[arg-type]


def report(*entries: Entry, end: End | None = None, windows: tuple[Window, ...] = ()) -> Report:
    header = Header("0badcafe", PLAN, 0.0)
    return Report(Ledger(header, entries, end or End(len(entries), "as planned", 1.0)), windows)


GOOD = [entry(number) for number in range(100)]


def test_a_good_run_is_valid() -> None:
    good = report(*GOOD)
    assert good.invalid() == []
    assert good.rate == pytest.approx(10)
    assert good.kept_share == 0.5
    assert percentile(latencies(good.entries), 0.99) == pytest.approx(0.02)
    assert good.cpu_share == pytest.approx(1 / 9.9)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([replace(one, started=one.started + 0.2 * (one.number > 90)) for one in GOOD], "fell behind: 9.0%"),
        ([replace(one, started=one.started + 1.1 * (one.number == 90)) for one in GOOD], "fell behind"),
        ([replace(one, opened=True) for one in GOOD], "0% of the requests went over kept connections"),
        (
            [replace(one, scheduled=one.scheduled * 2, started=one.started * 2) for one in GOOD],
            "requests/s instead of 10",
        ),
        ([replace(one, kind=Kind.STREAM) for one in GOOD], "streams took 0.0 s, planned are 5 s"),
        ([], "no request was sent"),
    ],
)
def test_what_makes_a_run_invalid(entries: list[Entry], reason: str) -> None:
    assert any(reason in found for found in report(*entries).invalid())


def test_where_only_losses_count_some_requests_may_be_a_little_late() -> None:
    some = report(*(replace(one, started=one.started + 0.2 * (80 < one.number < 90)) for one in GOOD))
    assert some.invalid(MOST_LATE) == []
    most = report(*(replace(one, started=one.started + 0.2) for one in GOOD))
    assert any("fell behind" in found for found in most.invalid(MOST_LATE))
    hung = report(*(replace(one, started=one.started + 1.1 * (one.number == 90)) for one in GOOD))
    assert any("fell behind" in found for found in hung.invalid(MOST_LATE))


def test_a_request_that_is_missing_makes_a_run_invalid() -> None:
    found = report(*GOOD[:-1], end=End(100, "as planned", 1.0)).invalid()
    assert found == ["100 requests were sent, 99 are in the ledger"]


def test_windows_divide_the_requests() -> None:
    window = Window("deploy", 2.0, 4.0)
    with_window = report(*GOOD, windows=(window,))
    assert [one.number for one in with_window.during()] == list(range(20, 41))
    assert len(with_window.outside()) == 79


def test_a_release_has_taken_over_after_the_last_answer_of_another() -> None:
    window = Window("deploy", 2.0, 6.0)
    flapping = {32, 33, *range(35, 100)}
    taken = report(*[replace(one, release=NEW if one.number in flapping else OLD) for one in GOOD])
    assert taken.taken_over(NEW, window) == pytest.approx(1.5)
    assert taken.taken_over(OLD, window) is None
    assert report(*GOOD).taken_over(OLD, window) == pytest.approx(0.0)


def test_failures_are_named() -> None:
    failed = report(*[replace(one, outcome="status 503") for one in GOOD[:3]], *GOOD[3:])
    assert failed.reasons == {"health: status 503": 3}
    assert "3 times health: status 503" in failed.summary()


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50, 99, 100)
    assert percentile([], 0.5) == 0.0


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ledger.jsonl"
    header, end = Header("0badcafe", PLAN, 12.5), End(100, "asked to stop", 0.5)
    with ledger.writing(file) as writer:
        writer.header(header)
        for one in GOOD:
            writer.entry(one)
        writer.end(end)
    assert ledger.read(file) == Ledger(header, tuple(GOOD), end)
    with pytest.raises(FileExistsError), ledger.writing(file):
        pass


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with ledger.writing(file) as writer:
        writer.header(Header("0badcafe", PLAN, 0.0))
        writer.entry(GOOD[0])
        writer.entry(GOOD[1])
    file.write_text(file.read_text()[:-10])
    assert ledger.read(file).entries == (GOOD[0],)


@pytest.mark.parametrize("text", ["", "{}\n", "what\n", '{"line": "request", "number": 1}\n'])
def test_what_is_no_ledger_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_text(text)
    with pytest.raises(LedgerError, match=str(file)):
        ledger.read(file)
