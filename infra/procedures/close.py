"""`python -m infra.procedures.close`: ends an operation that its playbook began and did not end.

For the callback `runbook`, whose process has forked others and must not open a store. What it needs comes on
standard input as JSON (`Closing`); the result that was logged goes to standard output.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra import paths
from infra.procedures import operation
from infra.procedures.operation import Operation
from infra.procedures.wording import kept, redact_for
from infra.record import RecordError, Result, open_record

_TIMEOUT = 90.0


class Closing(BaseModel):
    """The operation, its record, and how it ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: dict[str, Any]
    secretstore: dict[str, Any]
    stack: str
    operation: Operation
    result: Result
    message: str


class Closed(BaseModel):
    """What was logged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    message: str


def close(wanted: Closing) -> tuple[Result, str]:
    """End the operation in a process of its own; the result that stands, and what to say of it."""
    message = wanted.message
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            cwd=paths.REPOSITORY,
            input=wanted.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result.UNCERTAIN, f"{message}; the record did not answer within {_TIMEOUT:.0f} s"
    if done.returncode:
        return Result.UNCERTAIN, f"{message}; the end could not be recorded: {done.stderr.strip()}"
    found = Closed.model_validate_json(done.stdout)
    lost = found.result is not wanted.result
    return found.result, f"{found.message}; the lease was lost meanwhile" if lost else found.message


def main() -> int:
    """End it; 1 with the reason on standard error."""
    wanted = Closing.model_validate_json(sys.stdin.read())
    message = ""
    if wanted.message:
        message = kept(wanted.message, redact_for(wanted.secretstore, wanted.stack, wanted.record))
    try:
        result = operation.end(open_record(wanted.record), wanted.operation, wanted.result, message, {})
    except RecordError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(Closed(result=result, message=message).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
