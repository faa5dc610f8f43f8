"""What procedures call: a message is stored without secrets, waited for a moment, and fails nobody."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.notify import announce as module
from infra.notify import background
from infra.notify.announce import announce, resume
from infra.notify.outbox import Outbox
from infra.notify.stack import NotifyError
from infra.record import Store, StoreUnavailableError
from infra.record.directory import DirectoryStore
from infra.secretstore import IdentityError
from tests.unit.notify.conftest import Write

VALUE = "xoxb-0123456789"


@dataclass
class Secrets:
    readable: bool = True

    def values(self) -> dict[str, tuple[str, ...]]:
        if not self.readable:
            raise IdentityError("no age identity")
        return {"slack-token": (VALUE,)}


@dataclass
class Post:
    outbox: Outbox
    secrets: Secrets


@pytest.fixture
def post(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Post:
    post = Post(outbox, Secrets())
    monkeypatch.setattr(module, "Post", lambda _: post)
    return post


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stacks: list[str] = []
    monkeypatch.setattr(background, "start", stacks.append)
    return stacks


def test_a_message_waits_in_the_store_when_nobody_takes_it(
    post: Post, started: list[str], write: Write
) -> None:
    done = announce("local", write("a"), patience=0.2)
    assert (done.queued, done.delivered) == (True, False)
    assert started == ["local"]
    assert [queued.entry.message.title for queued in post.outbox.entries()] == ["a"]


def test_it_returns_as_soon_as_the_message_was_taken(post: Post, started: list[str], write: Write) -> None:
    def take() -> None:
        while not (queue := post.outbox.entries()):
            time.sleep(0.01)
        claimed = post.outbox.claim(queue[0])
        assert claimed is not None
        post.outbox.delivered(claimed)

    thread = threading.Thread(target=take)
    thread.start()
    began = time.monotonic()
    done = announce("local", write("a"), patience=30)
    thread.join()
    assert (done.queued, done.delivered) == (True, True)
    assert time.monotonic() - began < 10


def test_a_refusal_is_said_at_once(post: Post, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        claimed = post.outbox.claim(post.outbox.entries()[0])
        assert claimed is not None
        post.outbox.give_back(claimed, "answered 404", refused=True)

    monkeypatch.setattr(background, "start", refuse)
    began = time.monotonic()
    done = announce("local", write("a"), patience=30)
    assert (done.queued, done.delivered, done.problem) == (True, False, "answered 404")
    assert time.monotonic() - began < 10


def test_no_secret_is_stored(post: Post, store: Store, started: list[str], write: Write) -> None:
    message = write(f"token {VALUE}", text=VALUE)
    announce("local", message, patience=0)
    (key,) = store.list("outbox")
    assert VALUE.encode() not in store.get(key).data
    assert b"(secret slack-token)" in store.get(key).data


def test_without_the_values_only_the_title_is_stored(
    post: Post, store: Store, started: list[str], write: Write
) -> None:
    post.secrets.readable = False
    announce("local", write("title", facts=(("log", VALUE),), text=VALUE), patience=0)
    (queued,) = post.outbox.entries()
    assert queued.entry.message.title == "title"
    assert queued.entry.message.facts == ()
    assert "could not be read" in queued.entry.message.text


@pytest.mark.parametrize(
    "error", [NotifyError("no such stack"), StoreUnavailableError("away"), OSError("full")]
)
def test_nothing_of_it_fails_a_procedure(
    error: Exception, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise error

    monkeypatch.setattr(module, "Post", fails)
    done = announce("local", write("a"))
    assert (done.queued, done.delivered, done.problem) == (False, False, str(error))


def test_a_procedure_starts_the_deliverer_of_what_an_earlier_one_left(
    tmp_path: Path, started: list[str], write: Write
) -> None:
    store = DirectoryStore(tmp_path / "record")
    assert not resume("local", store)
    assert started == []
    Outbox(store).put(write("a"))
    assert resume("local", store)
    assert started == ["local"]


def test_what_is_queued_is_called_so_whatever_comes_after(
    post: Post, started: list[str], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: str) -> None:
        raise StoreUnavailableError("the store is gone")

    monkeypatch.setattr(post.outbox, "get", gone)
    done = announce("local", write("a"), patience=0.2)
    assert (done.queued, done.delivered, done.problem) == (True, False, "the store is gone")
