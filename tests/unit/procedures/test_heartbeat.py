"""What the heartbeat says when the record's store does not answer, and when the lease is gone."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.procedures import heartbeat
from infra.procedures.heartbeat import Beating, Status
from infra.record import LeaseLostError, StoreUnavailableError, process
from tests.waiting import eventually


class Lease:
    """Renews, or fails as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.renewed = 0

    def renew(self) -> None:
        if self.error is not None:
            raise self.error
        self.renewed += 1


class Beat:
    """The loop of a heartbeat in a thread, for a controller that is a process of the test's."""

    def __init__(self, directory: Path) -> None:
        self.lease = Lease()
        self.controller = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        identity = process.identify(self.controller.pid)
        assert identity is not None
        self.status = directory / "7.json"
        given: dict[str, Any] = {"record": {}, "token": 7, "pid": self.controller.pid, "controller": identity}
        say = heartbeat._Say(Beating(**given, status=self.status))
        say()
        self.codes: list[int] = []
        descriptor = os.pidfd_open(self.controller.pid)
        beat: Any = heartbeat._beat
        self.thread = threading.Thread(target=lambda: self.codes.append(beat(self.lease, descriptor, say)))
        self.thread.start()

    def end(self) -> None:
        self.controller.kill()
        self.controller.wait()
        self.thread.join(10)

    def says(self) -> Status:
        return Status.model_validate_json(self.status.read_bytes())


@pytest.fixture
def beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beat]:
    # Below the allowed difference of clocks: the first beat that fails is too late already.
    monkeypatch.setattr(heartbeat, "DEFAULT_TTL", 0.2)
    made = Beat(tmp_path)
    yield made
    made.end()
    assert not made.thread.is_alive()


def test_it_renews_until_its_controller_is_gone(beat: Beat) -> None:
    eventually(lambda: beat.lease.renewed > 3, "it renews")
    assert beat.says().alive
    assert not beat.says().abandoned
    beat.end()
    assert beat.codes == [0]
    assert not beat.status.exists()


def test_it_says_that_the_store_does_not_answer_and_that_it_does_again(beat: Beat) -> None:
    beat.lease.error = StoreUnavailableError("store s3://x is not available: no route")
    eventually(lambda: "no route" in beat.says().trouble, "it says what is wrong")
    assert "could not be renewed since" in beat.says().trouble
    assert beat.says().lost == ""
    beat.lease.error = None
    eventually(lambda: beat.says().trouble == "", "it takes it back")


def test_it_ends_with_the_lease_and_says_who_took_it(beat: Beat) -> None:
    beat.lease.error = LeaseLostError("carol took it")
    eventually(lambda: not beat.thread.is_alive(), "it ends")
    assert beat.codes == [1]
    assert beat.says().lost == "carol took it"


def test_what_dead_controllers_left_is_removed(beat: Beat, tmp_path: Path) -> None:
    left = tmp_path / "6.json"
    gone = "/".join([*beat.says().controller.split("/")[:-1], "1"])
    left.write_text(beat.says().model_copy(update={"controller": gone}).model_dump_json())
    (tmp_path / "5.json").write_text("{}")
    heartbeat._remove_abandoned(tmp_path)
    assert [file.name for file in tmp_path.glob("*.json")] == ["7.json"]
