"""`python -m infra.procedures.heartbeat`: renews an operation's lease while its controller lives.

A process of its own, since tasks run in processes that end with them. What it needs comes on standard
input as JSON (`Beating`); it answers `ready`, and from then on says what happens in its status file.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

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
    """The status file: which process renews, whether the lease is lost, or why it could not be renewed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: str | None
    lost: str = ""
    trouble: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        if self.process is None:
            return False
        return process.identify(int(self.process.split("/")[2])) == self.process


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
    _write(wanted.status)
    print(READY, flush=True)
    _leave_the_pipe()
    return _beat(lease, controller, wanted.status)


def _beat(lease: Lease, controller: int, status: Path) -> int:
    gone = select.poll()
    gone.register(controller, select.POLLIN)
    renewed, trouble = time.time(), False
    while not gone.poll(DEFAULT_TTL / _BEATS_PER_TTL * 1000):
        try:
            lease.renew()
        except LeaseLostError as error:
            _write(status, lost=str(error))
            return 1
        except RecordError as error:
            if time.time() - renewed > DEFAULT_TTL - CLOCK_SKEW.total_seconds():
                trouble = True
                since = time.strftime("%H:%M:%S", time.gmtime(renewed))
                _write(status, trouble=f"the lease could not be renewed since {since} UTC: {error}")
        else:
            renewed = time.time()
            if trouble:
                trouble = False
                _write(status)
    status.unlink(missing_ok=True)
    return 0


def _write(path: Path, *, lost: str = "", trouble: str = "") -> None:
    document = Status(process=process.identify(os.getpid()), lost=lost, trouble=trouble)
    staged = path.with_suffix(".new")
    staged.touch(mode=0o600)
    staged.write_text(document.model_dump_json())
    staged.replace(path)


def _leave_the_pipe() -> None:
    """Point standard output and errors elsewhere: nobody reads the pipe any more."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


if __name__ == "__main__":
    sys.exit(main())
