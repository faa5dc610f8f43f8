"""Delivery: taken by the webhook once, tried again while it may help, never dropped."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from infra.notify import delivery
from infra.notify.delivery import Deliverer
from infra.notify.outbox import Entry, Outbox
from infra.record import RecordError, StoreUnavailableError
from infra.secrets.catalogue import Channel
from infra.secretstore import MissingSecretError
from tests.unit.notify.conftest import HOST, SECRET_PATH, Slack, Write, webhook


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(delivery, "_LOOK", 0.02)


def entry(outbox: Outbox) -> Entry:
    (queued,) = outbox.entries()
    return queued.entry


def test_messages_arrive_in_their_channels_in_order(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    for title, channel in (("1", Channel.STATUS), ("2", Channel.OPS_AI), ("3", Channel.STATUS)):
        outbox.put(write(title, channel))

    done = deliverer.once()

    assert done.sent == ["message-000", "message-001", "message-002"]
    assert double.titles("status") == ["1", "3"]
    assert double.titles("ops-ai") == ["2"]
    assert outbox.entries() == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(503, text="upstream connect error"), f"{HOST} answered 503 (upstream connect error)"),
        (httpx.Response(302), f"{HOST} answered 302"),
        (httpx.Response(408), f"{HOST} answered 408"),
        (httpx.ConnectTimeout("timed out"), "ConnectTimeout: timed out"),
    ],
)
def test_what_may_pass_is_kept_and_tried_again(
    outbox: Outbox, double: Slack, write: Write, answer: httpx.Response | Exception, said: str
) -> None:
    deliverer = Deliverer(outbox, webhook, double.client)
    outbox.put(write("a"))
    double.answers.append(answer)

    done = deliverer.once()

    assert (done.sent, done.waiting, done.refused) == ([], ["message-000"], [])
    assert (entry(outbox).state, entry(outbox).problem) == ("waiting", said)
    assert deliverer.once().sent == ["message-000"]
    assert double.titles("deployments") == ["a"]


def test_nothing_overtakes_what_waits_in_its_channel(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    for title, channel in (("1", Channel.STATUS), ("2", Channel.STATUS), ("3", Channel.OPS_AI)):
        outbox.put(write(title, channel))
    double.answers.append(httpx.Response(500))

    done = deliverer.once()

    assert (done.sent, done.waiting) == (["message-002"], ["message-000", "message-001"])
    assert len(double.calls) == 2
    deliverer.once()
    assert double.titles("status") == ["1", "2"]


def test_a_refused_message_is_kept_shown_and_tried_when_asked(
    outbox: Outbox, double: Slack, write: Write
) -> None:
    known = {Channel.STATUS: f"https://{HOST}/services/T0/B0/gone"}
    deliverer = Deliverer(outbox, lambda channel: known.get(channel, webhook(channel)), double.client)
    outbox.put(write("a", Channel.STATUS))
    outbox.put(write("b", Channel.STATUS))

    assert deliverer.once().refused == ["message-000", "message-001"]
    assert [(queued.entry.state, queued.entry.problem) for queued in outbox.entries()] == [
        ("refused", f"{HOST} answered 404 (no_service)")
    ] * 2
    assert not deliverer.has_work()
    assert deliverer.until_empty(5)
    calls = len(double.calls)
    assert deliverer.once().refused == ["message-000", "message-001"]
    assert len(double.calls) == calls

    known.clear()
    assert deliverer.once(refused=True).sent == ["message-000", "message-001"]
    assert double.titles("status") == ["a", "b"]


def test_a_webhook_that_is_no_https_url_is_refused(outbox: Outbox, double: Slack, write: Write) -> None:
    outbox.put(write("a"))
    for url in (
        "http://hooks.example/services/x",
        "not a url",
        "https://hooks.example:secret/x",
        "https://[hooks.example/x",
        "https://hooks.example/\x07",
    ):
        deliverer = Deliverer(outbox, lambda _, url=url: url, double.client)  # type: ignore[misc]
        assert deliverer.once(refused=True).refused == ["message-000"]
        assert entry(outbox).problem == "the webhook's secret is not an https URL"
    assert double.calls == []


def test_a_webhook_that_nobody_has_set_yet_is_waited_for(outbox: Outbox, double: Slack, write: Write) -> None:
    known: list[str] = []

    def find(channel: Channel) -> str:
        if not known:
            raise MissingSecretError("no value for: slack-webhook-status\n  how to set it")
        return webhook(channel)

    deliverer = Deliverer(outbox, find, double.client)
    outbox.put(write("a"))
    assert deliverer.once().waiting == ["message-000"]
    assert entry(outbox).problem == "the webhook's URL can't be read: no value for: slack-webhook-status"
    known.append("set")
    assert deliverer.once().sent == ["message-000"]


def test_no_problem_names_the_webhook(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    outbox.put(write("a"))
    url = webhook(Channel.DEPLOYMENTS)
    for answer in (httpx.ConnectError(f"no route for {url}"), httpx.Response(500, text=f"bad {url}")):
        double.answers.append(answer)
        deliverer.once()
        assert SECRET_PATH not in entry(outbox).problem
        assert "(webhook)" in entry(outbox).problem


def test_two_deliverers_send_everything_once(outbox: Outbox, double: Slack, write: Write) -> None:
    for number in range(20):
        outbox.put(write(str(number), list(Channel)[number % 4]))
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        Deliverer(outbox, webhook, double.client).until_empty(30)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outbox.entries() == []
    assert sorted(int(title) for each in Channel for title in double.titles(each)) == list(range(20))


def test_it_goes_on_until_the_webhook_answers(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    outbox.put(write("a"))
    double.answers += [httpx.Response(503)] * 5
    assert deliverer.until_empty(30)
    assert double.titles("deployments") == ["a"]
    assert len(double.calls) == 6


def test_it_gives_up_in_time_and_keeps_the_message(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    outbox.put(write("a"))
    double.answers += [httpx.Response(503)] * 1000
    assert not deliverer.until_empty(0.3)
    assert entry(outbox).state == "waiting"
    assert entry(outbox).attempts > 1


def test_it_waits_as_long_as_the_webhook_asks(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    outbox.put(write("a"))
    double.answers.append(httpx.Response(429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    assert deliverer.until_empty(30)
    assert time.monotonic() - began >= 1
    assert double.titles("deployments") == ["a"]


def test_a_new_message_does_not_wait_for_the_pause_of_an_old_one(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    outbox.put(write("a"))
    double.answers.append(httpx.Response(429, headers={"Retry-After": "60"}))
    began = time.monotonic()
    timer = threading.Timer(0.3, lambda: outbox.put(write("b", Channel.STATUS)))
    timer.start()
    assert deliverer.until_empty(90)
    assert time.monotonic() - began < 20
    assert double.titles("status") == ["b"]


def test_a_store_that_is_away_is_waited_for(
    outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put(write("a"))
    entries, failures = outbox.entries, [StoreUnavailableError("away")] * 3

    def flaky() -> object:
        if failures:
            raise failures.pop()
        return entries()

    monkeypatch.setattr(outbox, "entries", flaky)
    with pytest.raises(RecordError):
        deliverer.once()
    assert deliverer.until_empty(30)
    assert double.titles("deployments") == ["a"]
