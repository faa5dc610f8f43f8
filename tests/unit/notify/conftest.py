"""A queue, and the vendors' double with a webhook of each channel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from infra.notify.delivery import Deliverer
from infra.notify.message import Message
from infra.notify.outbox import Outbox
from infra.record import Store
from infra.record.directory import DirectoryStore
from infra.record.objects import ObjectStoreDriver
from infra.secrets.catalogue import Channel
from reference.vendors import slack
from reference.vendors.settings import SlackSeed, SlackSettings
from reference.vendors.store import Store as Documents

HOST = "hooks.example"
SECRET_PATH = "T1/B1/secret-of-"
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Write = Callable[..., Message]


@dataclass
class Slack:
    """The double behind `https://hooks.example`; `answers` are given first, `calls` are paths asked for."""

    documents: Documents
    api: TestClient
    answers: list[httpx.Response | Exception] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            with self.turn:
                passed = self.api.post(
                    request.url.path, content=request.content, headers={"content-type": "application/json"}
                )
            answer = httpx.Response(passed.status_code, content=passed.content)
        self.calls.append(request.url.path)
        return answer

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self.handle))

    def titles(self, channel: str) -> list[str]:
        """Titles that a channel got, oldest first."""
        found: list[dict[str, Any]] = self.documents.all(f"{slack.MESSAGE}/{slack.channel_id(channel)}")
        return [message["blocks"][0]["text"]["text"] for message in found]


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Slack]:
    documents = Documents(tmp_path / "slack.sqlite")
    slack.seed(
        documents,
        SlackSeed(tokens=(), webhooks={f"{SECRET_PATH}{each}": each.value for each in Channel}),
    )
    app = FastAPI()
    app.include_router(slack.router(documents, SlackSettings(team="icupa", channels=tuple(Channel))))
    yield Slack(documents, TestClient(app))
    documents.close()


@pytest.fixture(params=["directory", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "record")
    return ObjectStoreDriver("memory:///")


@pytest.fixture
def outbox(store: Store) -> Outbox:
    return Outbox(store)


def webhook(channel: Channel) -> str:
    return f"https://{HOST}/services/{SECRET_PATH}{channel}"


@pytest.fixture
def deliverer(outbox: Outbox, double: Slack) -> Deliverer:
    return Deliverer(outbox, webhook, double.client)


@pytest.fixture
def write() -> Write:
    """Messages, each a second after the one before."""
    made: list[Message] = []

    def message(title: str, channel: Channel = Channel.DEPLOYMENTS, **fields: Any) -> Message:
        at = BEGAN + timedelta(seconds=len(made))
        made.append(
            Message(id=f"message-{len(made):03d}", channel=channel, title=title, at=at, by="alice", **fields)
        )
        return made[-1]

    return message
