"""The queue: created once, claimed by one, kept until it is delivered."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from infra.notify import outbox as module
from infra.notify.outbox import Claim, Entry, Outbox, Queued, key_of
from infra.record import Store, process
from infra.record.model import canonical, now
from tests.unit.notify.conftest import Write


def only(outbox: Outbox) -> Queued:
    (queued,) = outbox.entries()
    return queued


def rewrite(store: Store, queued: Queued, entry: Entry) -> None:
    store.put_if_match(queued.key, canonical(entry.model_dump(mode="json")), queued.version)


def test_a_message_is_queued_once(outbox: Outbox, write: Write) -> None:
    message = write("a")
    assert outbox.put(message)
    assert not outbox.put(message.model_copy(update={"title": "another"}))
    assert only(outbox).entry == Entry(message=message)
    assert outbox.ids() == {message.id}


def test_the_oldest_comes_first(outbox: Outbox, write: Write) -> None:
    first, second, third = write("first"), write("second"), write("third")
    for message in (third, first, second):
        outbox.put(message)
    assert [queued.entry.message.title for queued in outbox.entries()] == ["first", "second", "third"]


def test_one_of_many_claims_a_message(outbox: Outbox, write: Write) -> None:
    outbox.put(write("a"))
    queued, barrier, won = only(outbox), threading.Barrier(8), []

    def race() -> None:
        barrier.wait()
        if outbox.claim(queued) is not None:
            won.append(True)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert won == [True]
    assert only(outbox).entry.attempts == 1
    assert only(outbox).entry.state == "being sent"
    assert outbox.claim(only(outbox)) is None


def test_a_claim_ends_by_itself(
    outbox: Outbox, store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put(write("a"))
    assert outbox.claim(only(outbox)) is not None
    assert outbox.claim(only(outbox)) is None
    later = now() + timedelta(seconds=module.CLAIM_SECONDS + 1)
    monkeypatch.setattr(module, "now", lambda: later)
    assert only(outbox).entry.state == "waiting"
    assert outbox.claim(only(outbox)) is not None


def test_a_claim_of_a_killed_deliverer_ends_at_once(outbox: Outbox, store: Store, write: Write) -> None:
    outbox.put(write("a"))
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    until = now() + timedelta(seconds=50)
    claim = Claim(process=process.identify(other.pid), host=socket.gethostname(), until=until)
    queued = only(outbox)
    rewrite(store, queued, queued.entry.model_copy(update={"claim": claim}))
    assert outbox.claim(only(outbox)) is None
    other.kill()
    other.wait()
    assert outbox.claim(only(outbox)) is not None


def test_what_could_not_be_sent_says_why(outbox: Outbox, write: Write) -> None:
    outbox.put(write("a"))
    claimed = outbox.claim(only(outbox))
    assert claimed is not None
    outbox.give_back(claimed, "answered 503", refused=False)
    entry = only(outbox).entry
    assert (entry.attempts, entry.problem, entry.state) == (1, "answered 503", "waiting")
    claimed = outbox.claim(only(outbox))
    assert claimed is not None
    outbox.give_back(claimed, "answered 404", refused=True)
    entry = only(outbox).entry
    assert (entry.attempts, entry.problem, entry.state) == (2, "answered 404", "refused")


def test_what_was_delivered_is_gone(outbox: Outbox, write: Write) -> None:
    message = write("a")
    outbox.put(message)
    queued = only(outbox)
    claimed = outbox.claim(queued)
    assert claimed is not None
    assert outbox.holds(message.id)
    outbox.delivered(claimed)
    assert not outbox.holds(message.id)
    assert outbox.claim(queued) is None
    assert outbox.entries() == []


def test_an_object_that_is_no_message_is_kept_and_in_nobodys_way(
    outbox: Outbox, store: Store, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    store.put_if_absent(key_of("foreign-object"), b"{}")
    outbox.put(write("a"))
    assert only(outbox).entry.message.title == "a"
    assert "outbox/foreign-object.json" in caplog.text
    assert store.get(key_of("foreign-object")).data == b"{}"
