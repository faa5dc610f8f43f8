"""`python -m infra.notify`: what waits, and its delivery by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx
import pytest

from infra.notify import __main__ as command
from infra.notify import background
from infra.notify.delivery import Deliverer
from infra.notify.outbox import Outbox
from infra.notify.stack import NotifyError
from infra.secrets.catalogue import Channel
from tests.unit.notify.conftest import Slack, Write


@dataclass
class Post:
    outbox: Outbox
    sender: Deliverer

    def deliverer(self) -> Deliverer:
        return self.sender


@pytest.fixture(autouse=True)
def post(outbox: Outbox, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch) -> Post:
    made = Post(outbox, deliverer)
    monkeypatch.setattr(command, "Post", lambda _: made)
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(["--stack", "local", *arguments])
    shown = capsys.readouterr()
    return code, " ".join(shown.out.split()), shown.err


def test_nothing_waits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "list") == (0, "no message waits", "")
    assert run(capsys, "deliver") == (0, "0 delivered", "")


def test_what_waits_is_shown_with_its_last_problem(
    capsys: pytest.CaptureFixture[str], outbox: Outbox, deliverer: Deliverer, double: Slack, write: Write
) -> None:
    outbox.put(write("[bold]title", Channel.STATUS))
    double.answers.append(httpx.Response(503))
    deliverer.once()
    code, out, _ = run(capsys, "list")
    assert code == 0
    for part in ("#status", "waiting", "[bold]title", "hooks.example answered 503"):
        assert part in out
    (shown,) = json.loads(run(capsys, "--json", "list")[1])
    assert (shown["state"], shown["attempts"], shown["message"]["channel"]) == ("waiting", 1, "status")


def test_delivery_by_hand_says_what_is_left(
    capsys: pytest.CaptureFixture[str], outbox: Outbox, double: Slack, write: Write
) -> None:
    outbox.put(write("a"))
    outbox.put(write("b", Channel.STATUS))
    double.answers.append(httpx.Response(404, text="channel_is_archived"))
    code, out, _ = run(capsys, "deliver")
    assert code == 1
    assert out.startswith("1 delivered")
    assert "refused" in out
    assert "channel_is_archived" in out
    assert (
        run(capsys, "--json", "deliver")[1] == '{ "sent": [ "message-000" ], "waiting": [], "refused": [] }'
    )


def test_in_the_background_it_goes_on_until_nothing_waits(
    capsys: pytest.CaptureFixture[str], outbox: Outbox, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float]] = []

    def deliver(stack: str, deliverer: Deliverer, limit: float) -> bool:
        asked.append((stack, limit))
        return deliverer.until_empty(limit)

    monkeypatch.setattr(background, "deliver", deliver)
    outbox.put(write("a"))
    assert run(capsys, "deliver", "--background", "--limit", "5")[0] == 0
    assert asked == [("local", 5)]
    assert outbox.entries() == []


def test_a_stack_that_is_none_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise NotifyError("there is no such stack")

    monkeypatch.setattr(command, "Post", fails)
    assert run(capsys, "list") == (1, "", "there is no such stack\n")
