"""Every way to lose a request is counted as one, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise

import pytest

from tests.instruments.load.double import LOOPBACK, SESSIONS, Double, Fault, credentials
from tests.load import generator, ledger
from tests.load.generator import Generator
from tests.load.kinds import Credentials, Kinds
from tests.load.ledger import Ledger
from tests.load.plan import Kind, Plan
from tests.load.report import Report
from tests.load.wire import Target

RUN = "0badcafe"
TOGETHER = {Kind.WHOAMI: 4, Kind.HEALTH: 2, Kind.WEBHOOK: 3, Kind.VOUCHER: 1, Kind.STREAM: 1}


def plan(**given: object) -> Plan:
    """A short run; a request may take half a second."""
    short = {"rate": 100, "seconds": 0.4, "timeout": 0.5, "stream_seconds": 0.2, "kept_connections": 3}
    return Plan.model_validate({"mix": TOGETHER, **short, **given})


def only(kind: Kind, **given: object) -> Plan:
    return plan(mix={kind: 1}, **given)


async def load(
    double: Double, planned: Plan, target: Target | None = None, given: Credentials | None = None
) -> Ledger:
    file = double.key.parent / "ledger.jsonl"
    async with double.listening():
        with ledger.writing(file) as writer:
            kinds = Kinds(RUN, planned, given or credentials())
            await Generator(RUN, planned, target or double.target(), kinds, writer).run()
    return ledger.read(file)


async def test_a_service_that_answers_loses_nothing(double: Double) -> None:
    found = await load(double, plan(seconds=1))
    report = Report(found)
    assert report.failed == []
    assert found.end is not None
    assert found.end.sent == len(found.entries) == 100
    assert {entry.release for entry in found.entries if entry.kind is Kind.HEALTH} == {double.release}
    assert set(report.acknowledged) == {*double.messages, *double.vouchers}
    assert set(double.messages.values()) == set(double.vouchers.values()) == {1}
    asked = Counter(
        {sessions for _, path in double.requests if (sessions := path.split("/")[-2]) in SESSIONS}
    )
    assert set(asked) == set(SESSIONS)


@pytest.mark.parametrize(
    ("kind", "path", "fault", "outcome"),
    [
        (Kind.WHOAMI, "whoami", Fault.DROP, "answer: closed"),
        (Kind.WHOAMI, "whoami", Fault.RESET, "answer: "),
        (Kind.WHOAMI, "whoami", Fault.TRUNCATE, "body: truncated"),
        (Kind.WHOAMI, "whoami", Fault.DELAY, "answer: no end within 0.5 s"),
        (Kind.WHOAMI, "whoami", Fault.UNAVAILABLE, "status 503"),
        (Kind.WHOAMI, "whoami", Fault.WRONG, "answer: not JSON"),
        (Kind.WEBHOOK, "webhook", Fault.DROP, "answer: closed"),
        (Kind.WEBHOOK, "webhook", Fault.UNAVAILABLE, "status 503"),
        (Kind.WEBHOOK, "webhook", Fault.REPEAT, "though sent once"),
        (Kind.VOUCHER, "create_voucher", Fault.TRUNCATE, "body: truncated"),
        (Kind.STREAM, "messages", Fault.CUT, "body: truncated"),
        (Kind.STREAM, "messages", Fault.UNFINISHED, "stream: ends before it is complete"),
        (Kind.STREAM, "messages", Fault.SPOILED, "stream: error"),
        (Kind.STREAM, "messages", Fault.DROP, "answer: closed"),
    ],
)
async def test_each_way_to_lose_a_request_is_counted(
    double: Double, kind: Kind, path: str, fault: Fault, outcome: str
) -> None:
    double.faults[path] = fault
    report = Report(await load(double, only(kind, rate=20)))
    assert len(report.failed) == len(report.entries) == 8
    assert all(outcome in entry.outcome for entry in report.failed), report.reasons
    assert report.acknowledged == []


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET, Fault.TRUNCATE, Fault.UNAVAILABLE])
@pytest.mark.parametrize("fresh", [0, 1])
async def test_nothing_is_asked_twice(double: Double, fault: Fault, fresh: int) -> None:
    double.faults["whoami"] = fault
    found = await load(double, only(Kind.WHOAMI, fresh=fresh))
    assert len(double.requests) == len(found.entries)


async def test_a_stream_that_is_too_slow_is_lost(double: Double) -> None:
    double.stream_seconds = 2.0
    report = Report(await load(double, only(Kind.STREAM, rate=20)))
    assert {entry.outcome for entry in report.failed} == {"body: no end within 0.7 s"}
    assert len(report.failed) == len(report.entries)


async def test_nobody_there_is_counted(double: Double) -> None:
    async with double.listening():
        target = double.target()
    double.port = 0
    report = Report(await load(double, plan(), target))
    assert len(report.failed) == len(report.entries) == 40
    assert {entry.outcome for entry in report.failed} == {"connect: ConnectionRefusedError"}


async def test_a_certificate_of_another_name_is_not_trusted(double: Double) -> None:
    async with double.listening():
        target = double.target().model_copy(update={"name": "else.example"})
    report = Report(await load(double, only(Kind.WHOAMI), target))
    assert {entry.outcome for entry in report.entries} == {"connect: CERTIFICATE_VERIFY_FAILED"}
    assert double.requests == []


async def test_half_of_the_requests_have_connections_of_their_own(double: Double) -> None:
    found = await load(double, only(Kind.WHOAMI, seconds=1))
    assert [entry.opened for entry in found.entries if entry.fresh] == [True] * 50
    kept = double.connections - 50
    assert 3 <= kept < 10
    assert sum(entry.opened for entry in found.entries if not entry.fresh) == kept
    used = Counter(number for number, _ in double.requests)
    assert sum(sorted(used.values())[-kept:]) == 50


async def test_a_connection_that_the_service_closes_in_order_costs_nothing(double: Double) -> None:
    double.closing = True
    report = Report(await load(double, only(Kind.WHOAMI, seconds=1)))
    assert report.failed == []
    assert report.kept_share == 0


async def test_latency_counts_from_when_a_request_was_due(double: Double) -> None:
    """While one answer is late, those behind it are sent all the same: none is left out, none looks quick."""
    double.faults["whoami"], double.delay = Fault.DELAY, 0.3
    report = Report(await load(double, only(Kind.WHOAMI)))
    assert report.failed == []
    assert all(entry.latency >= 0.3 for entry in report.entries)
    starts = [entry.started for entry in report.entries]
    assert max(after - before for before, after in pairwise(starts)) < 0.2
    assert starts[-1] < report.entries[0].ended + 0.2


async def test_a_generator_that_falls_behind_says_so(double: Double) -> None:
    planned = only(Kind.WHOAMI, seconds=2.5, timeout=5)

    async def block() -> None:
        await asyncio.sleep(0.2)
        time.sleep(1.3)

    blocking = asyncio.create_task(block())
    report = Report(await load(double, planned))
    await blocking
    assert any("fell behind" in reason for reason in report.invalid())
    latest = max(report.entries, key=lambda entry: entry.lateness)
    assert latest.lateness > 1
    assert latest.latency > latest.lateness


async def test_a_foreign_address_is_never_asked(double: Double) -> None:
    target = Target(
        name="agents.example",
        port=443,
        address="192.0.2.1",
        allowed=frozenset({LOOPBACK}),
        trust=double.trust,
    )
    found = await load(double, plan(seconds=5), target)
    report = Report(found)
    assert found.end is not None
    assert found.end.reason == generator.FOREIGN
    assert 0 < len(report.failed) == len(report.entries) < 40
    assert {entry.address for entry in report.entries} == {None}
    assert "the name led to an address that is not the project's" in report.invalid()


async def test_streams_need_sessions() -> None:
    with pytest.raises(ValueError, match="session"):
        Kinds(RUN, plan(), Credentials("token", "secret"))


async def test_an_error_of_the_generator_leaves_no_end(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Kinds, "check", broken)
    with pytest.raises(ZeroDivisionError):
        await load(double, plan())
    found = ledger.read(double.key.parent / "ledger.jsonl")
    assert found.end is None
    assert Report(found).invalid()
