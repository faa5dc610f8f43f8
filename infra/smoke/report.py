"""Runs checks and says how they went: a line each, a JSON report, an exit code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import httpx

from infra.secretstore import SecretStoreError
from infra.smoke.checks import CheckFailedError, NotCheckedError
from infra.smoke.client import UnknownNameError
from infra.smoke.traces import TraceSinkError


class Status(StrEnum):
    """How a check went."""

    OK = "ok"
    FAILED = "FAILED"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Result:
    """One check."""

    check: str
    status: Status
    milliseconds: int
    detail: str

    @property
    def line(self) -> str:
        """Line for people."""
        return f"{self.status:<12}{self.check:<24}{self.milliseconds:>7} ms  {self.detail}"


def run(checks: Iterable[tuple[str, Callable[[], str]]]) -> Iterator[Result]:
    """Results one by one; a check that fails stops none of the others."""
    for name, check in checks:
        began = time.perf_counter()
        try:
            detail, status = check(), Status.OK
        except NotCheckedError as reason:
            detail, status = str(reason), Status.NOT_CHECKED
        except (CheckFailedError, UnknownNameError, TraceSinkError, SecretStoreError) as error:
            detail, status = str(error), Status.FAILED
        except (httpx.HTTPError, OSError, KeyError, TypeError, ValueError) as error:
            detail, status = f"{type(error).__name__}: {error}", Status.FAILED
        yield Result(name, status, round((time.perf_counter() - began) * 1000), detail)


def failed(results: Iterable[Result]) -> list[Result]:
    """Those that failed."""
    return [result for result in results if result.status is Status.FAILED]


def write(path: Path, target: str, results: list[Result]) -> None:
    """Write the JSON report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "target": target,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "passed": bool(results) and not failed(results),
        "checks": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
