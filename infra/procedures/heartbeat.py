"""`python -m infra.procedures.heartbeat`: renews an operation's lease while its controller lives.

A process of its own, since tasks run in processes that end with them. What it needs comes on standard
input as JSON (`Beating`); it answers `ready`, and from then on says what happens in its status file.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from infra import paths
from infra.procedures.operation import ProcedureError
from infra.record import Lease, LeaseLostError, RecordError, open_record, process
from infra.record.lease import CLOCK_SKEW, DEFAULT_TTL

READY = "ready"
_BEATS_PER_TTL = 4
_START_TIMEOUT = 30.0


class Beating(BaseModel):
    """What the process needs; `controller` is an identity of `infra.record.process`, `pid` its number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: dict[str, Any]
    token: int
    pid: int
    controller: str
    status: Path


class Status(BaseModel):
    """The status file: who renews for whom, whether the lease is lost, or why it could not be renewed.

    `process` and `controller` are identities of `infra.record.process`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: str
    controller: str
    lost: str = ""
    trouble: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process that renews runs."""
        return not _is_dead(self.process)

    @property
    def abandoned(self) -> bool:
        """Whether the controller is gone, so that nobody reads this any more."""
        return _is_dead(self.controller)


def status_file(stack: str, token: int) -> Path:
    """Status file of the heartbeat of one lease."""
    return paths.operations(stack) / f"{token}.json"


def read_status(stack: str, token: int) -> Status | None:
    """What the heartbeat says; None if there never was one here."""
    try:
        return Status.model_validate_json(status_file(stack, token).read_bytes())
    except FileNotFoundError:
        return None


def start(record: Mapping[str, Any], stack: str, token: int, controller: int) -> None:
    """Start the process and wait until it has renewed once.

    Raises:
        ProcedureError: it does not come up; the message has what it said.
    """
    identity = process.identify(controller)
    if identity is None:
        raise ProcedureError(f"the controller, process {controller}, is gone")
    status = status_file(stack, token)
    paths.private(status.parent)
    _remove_abandoned(status.parent)
    wanted = Beating(record=dict(record), token=token, pid=controller, controller=identity, status=status)
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=paths.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    if child.stdin is None or child.stdout is None:
        raise AssertionError("pipes were asked for")
    with child.stdin as stdin:
        stdin.write(wanted.model_dump_json())
    readable, _, _ = select.select([child.stdout], [], [], _START_TIMEOUT)
    answer = child.stdout.readline() if readable else f"no answer within {_START_TIMEOUT:.0f} s"
    if answer.strip() != READY:
        child.kill()
        rest, _ = child.communicate()
        raise ProcedureError(f"the heartbeat of the lease does not start: {(answer + rest).strip()}")


def main() -> int:
    """Renew until the controller is gone or the lease is lost."""
    wanted = Beating.model_validate_json(sys.stdin.read())
    try:
        controller = os.pidfd_open(wanted.pid)
    except ProcessLookupError:
        controller = -1
    if controller < 0 or process.identify(wanted.pid) != wanted.controller:
        print(f"the controller, process {wanted.pid}, is gone", flush=True)
        return 1
    try:
        lease = open_record(wanted.record).held_lease(wanted.token)
        lease.renew()
    except RecordError as error:
        print(error, flush=True)
        return 1
    say = _Say(wanted)
    say()
    print(READY, flush=True)
    _leave_the_pipe()
    return _beat(lease, controller, say)


def _beat(lease: Lease, controller: int, say: _Say) -> int:
    gone = select.poll()
    gone.register(controller, select.POLLIN)
    renewed, trouble = time.time(), False
    while not gone.poll(DEFAULT_TTL / _BEATS_PER_TTL * 1000):
        try:
            lease.renew()
        except LeaseLostError as error:
            say(lost=str(error))
            return 1
        except RecordError as error:
            if time.time() - renewed > DEFAULT_TTL - CLOCK_SKEW.total_seconds():
                trouble = True
                since = time.strftime("%H:%M:%S", time.gmtime(renewed))
                say(trouble=f"the lease could not be renewed since {since} UTC: {error}")
        else:
            renewed = time.time()
            if trouble:
                trouble = False
                say()
    say.nothing()
    return 0


class _Say:
    """Writes the status file."""

    def __init__(self, wanted: Beating) -> None:
        self._path = wanted.status
        self._controller = wanted.controller
        self._process = process.identify(os.getpid()) or ""

    def __call__(self, *, lost: str = "", trouble: str = "") -> None:
        status = Status(process=self._process, controller=self._controller, lost=lost, trouble=trouble)
        staged = self._path.with_suffix(".new")
        staged.touch(mode=0o600)
        staged.write_text(status.model_dump_json())
        staged.replace(self._path)

    def nothing(self) -> None:
        """Remove it."""
        self._path.unlink(missing_ok=True)


def _is_dead(identity: str) -> bool:
    return process.is_dead(identity, socket.gethostname())


def _remove_abandoned(directory: Path) -> None:
    """Remove the status files of heartbeats that lost their lease, or were killed, once nobody reads them."""
    for file in directory.glob("*.json"):
        try:
            abandoned = Status.model_validate_json(file.read_bytes()).abandoned
        except FileNotFoundError:
            continue
        except ValidationError:
            abandoned = True
        if abandoned:
            file.unlink(missing_ok=True)


def _leave_the_pipe() -> None:
    """Point standard output and errors elsewhere: nobody reads the pipe any more."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


if __name__ == "__main__":
    sys.exit(main())
