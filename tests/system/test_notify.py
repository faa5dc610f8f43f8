"""Messages on the running stack: they arrive, by themselves, once; and fail nobody (REC-2, acceptance 6)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.notify.outbox import Entry, Outbox
from infra.outputs.read import read_outputs
from infra.record import open_record
from infra.secrets.catalogue import Channel
from tests.controller import kill, words
from tests.kills import running
from tests.running import STACK, command, succeeds
from tests.vendors import fault, messages, secret
from tests.waiting import eventually

pytestmark = pytest.mark.system

NOTIFY = [sys.executable, "-m", "infra.notify", "--stack", STACK]


def outbox() -> Outbox:
    """The stack's queue."""
    return Outbox(open_record(read_outputs(STACK).record).store)


def queued(mark: str) -> list[Entry]:
    """Messages with a mark that were not delivered yet."""
    return [each.entry for each in outbox().entries() if mark in each.entry.message.model_dump_json()]


def telling(mark: str) -> list[str]:
    """A procedure that changes nothing and says so in #ops-ai; `mark` is in its message."""
    options = ["-e", "switch=FEATURE_AGENT_CHAT", "-e", "to=on", "-e", f"why={mark}"]
    return ["ansible-playbook", "ansible/playbooks/switch.yml", "-e", f"stack={STACK}", *options]


def arrived(mark: str) -> list[dict[str, Any]]:
    """Messages with a mark that #ops-ai got."""
    return [message for message in messages(Channel.OPS_AI) if mark in str(message)]


def deliverers() -> list[int]:
    """Process ids of the stack's detached deliverers."""
    processes = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in processes if _is_deliverer(words(pid, "cmdline"))]


def _is_deliverer(arguments: list[str]) -> bool:
    return "infra.notify" in arguments and "--background" in arguments and STACK in arguments


@pytest.fixture
def mark() -> str:
    return f"drill-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    succeeds([*NOTIFY, "deliver"])
    yield
    eventually(lambda: not outbox().ids(), "nothing waits any more", 90)
    eventually(lambda: not deliverers(), "the deliverer has ended")


def test_a_procedure_tells_at_once_what_it_did(mark: str) -> None:
    output = succeeds(telling(mark))
    (message,) = arrived(mark)
    assert "told #ops-ai: switch: FEATURE_AGENT_CHAT on" in output
    assert message["blocks"][0]["text"]["text"] == "switch: FEATURE_AGENT_CHAT on"
    assert secret("slack-webhook-ops-ai") not in output
    assert not queued(mark)


def test_slack_down_fails_nothing_and_the_message_arrives_later_by_itself(mark: str) -> None:
    with fault("slack", mode="down"):
        output = succeeds(telling(mark))
        assert "queued for #ops-ai, delivered later" in " ".join(output.split())
        eventually(lambda: queued(mark)[0].attempts >= 2, "it is tried again")
        (entry,) = queued(mark)
        assert "answered 503" in entry.problem
        assert entry.problem in " ".join(succeeds([*NOTIFY, "list"]).split())
    eventually(lambda: arrived(mark), "the message arrives by itself")
    eventually(lambda: not queued(mark), "it is gone from the queue")
    assert len(arrived(mark)) == 1


def test_a_killed_controller_leaves_its_message_to_the_deliverer(mark: str) -> None:
    with fault("slack", mode="down"):
        with running(telling(mark)) as controller:
            eventually(lambda: queued(mark) and deliverers(), "the message is queued", 120)
            kill(controller)
        assert deliverers()
    eventually(lambda: arrived(mark), "the message arrives without its controller")
    eventually(lambda: not queued(mark), "it is gone from the queue")
    assert len(arrived(mark)) == 1
    # The lease of the one that was killed is taken up by the same command.
    succeeds(telling(mark))


def test_the_message_of_a_killed_deliverer_is_sent_by_the_next_procedure_in_order(mark: str) -> None:
    with fault("slack", mode="down"):
        succeeds(telling(f"{mark}-first"))
        for pid in deliverers():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not deliverers(), "no deliverer is left")
    assert [entry.message.by for entry in queued(mark)]
    assert not arrived(mark)
    succeeds(telling(f"{mark}-second"))
    eventually(lambda: len(arrived(mark)) == 2, "both arrive")
    first, second = arrived(mark)
    assert f"{mark}-first" in str(first)
    assert f"{mark}-second" in str(second)


def test_several_deliverers_send_a_message_once(mark: str) -> None:
    with fault("slack", mode="down"):
        succeeds(telling(mark))
    with fault("slack", latency_ms=1500):
        together = [
            subprocess.Popen([*NOTIFY, "deliver"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(3)
        ]
        for process in together:
            process.wait()
    eventually(lambda: not queued(mark), "it is gone from the queue")
    assert len(arrived(mark)) == 1


def test_a_refused_message_is_kept_shown_and_sent_when_it_is_asked_for(mark: str) -> None:
    with fault("slack", error_rate=1, error_status=404):
        output = succeeds(telling(mark))
        assert "answered 404" in " ".join(output.split())
        eventually(lambda: not deliverers(), "nobody tries what is refused")
        (entry,) = queued(mark)
        assert entry.state == "refused"
        assert "refused" in succeeds([*NOTIFY, "list"])
        assert command([*NOTIFY, "deliver"]).returncode == 1
        assert queued(mark)
    assert not arrived(mark)
    succeeds([*NOTIFY, "deliver"])
    assert len(arrived(mark)) == 1
