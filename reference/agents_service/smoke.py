"""The application's smoke suite (DEP-1): one line a check, against a running service, as a client would."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from .config import HttpUrl, Secret, _Base
from .context import CORRELATION_HEADER

SMOKE_MSISDN: Final = "+250788000000"


class SmokeSettings(_Base):
    """Where the service is, and a token for it."""

    agents_url: HttpUrl
    smoke_token: Secret
    smoke_timeout_seconds: float = 30
    smoke_report_file: Path | None = None
    smoke_expect_git_sha: str | None = None


class CheckFailedError(Exception):
    """A check found something else than it wants."""


@dataclass(frozen=True)
class Result:
    """How one check went."""

    check: str
    passed: bool
    detail: str
    milliseconds: int


def main(settings: SmokeSettings) -> int:
    """Run all checks, print a line for each, write the report; 1 where one failed."""
    headers = {
        "Authorization": f"Bearer {settings.smoke_token.get_secret_value()}",
        CORRELATION_HEADER: f"smoke-{uuid.uuid4()}",
    }
    with httpx.Client(
        base_url=settings.agents_url, headers=headers, timeout=settings.smoke_timeout_seconds
    ) as client:
        results = run(client, settings.smoke_expect_git_sha)
    for result in results:
        mark = "ok  " if result.passed else "FAIL"
        print(f"{mark} {result.check}: {result.detail} ({result.milliseconds} ms)")
    if settings.smoke_report_file is not None:
        report = json.dumps([asdict(result) for result in results], indent=2)
        settings.smoke_report_file.write_text(report, encoding="utf-8")
    return 0 if all(result.passed for result in results) else 1


def run(client: httpx.Client, expect_git_sha: str | None = None) -> list[Result]:
    """Run all checks."""
    suite = _Suite(client, expect_git_sha)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("health", suite.health),
        ("readiness", suite.readiness),
        ("token needed", suite.token_needed),
        ("identity", suite.identity),
        ("agent", suite.agent),
        ("agent, streaming", suite.agent_streaming),
        ("voucher written and read back", suite.voucher),
        ("customer look-up", suite.customer),
        ("metrics", suite.metrics),
    ]
    return [_timed(name, check) for name, check in checks]


def _timed(name: str, check: Callable[[], str]) -> Result:
    started = time.perf_counter()
    try:
        detail, passed = check(), True
    except CheckFailedError as error:
        detail, passed = str(error), False
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        detail, passed = f"{type(error).__name__}: {error}", False
    return Result(name, passed, detail, round((time.perf_counter() - started) * 1000))


class _Suite:
    def __init__(self, client: httpx.Client, expect_git_sha: str | None) -> None:
        self._client = client
        self._expect_git_sha = expect_git_sha

    def health(self) -> str:
        document = self._json("GET", "/health")
        if self._expect_git_sha and document["git_sha"] != self._expect_git_sha:
            raise CheckFailedError(f"running {document['git_sha']}, expected {self._expect_git_sha}")
        return f"git_sha {document['git_sha']}, schema {document['schema_revision']}"

    def readiness(self) -> str:
        return str(self._json("GET", "/health/ready")["status"])

    def token_needed(self) -> str:
        for path in ("/api/whoami", "/metrics", "/api/vouchers/AI-000000000000"):
            status = self._client.get(path, headers={"Authorization": ""}).status_code
            if status != httpx.codes.UNAUTHORIZED:
                raise CheckFailedError(f"{path} answers {status} without a token")
        return "401 without one"

    def identity(self) -> str:
        return f"verified as {self._json('GET', '/api/whoami')['subject']}"

    def agent(self) -> str:
        answer = self._json("POST", self._messages(), json={"message": "What is on the menu?"})
        if not answer["text"]:
            raise CheckFailedError("the answer is empty")
        return f"answered by {answer['model']} for {answer['usage']['cost_usd']} USD"

    def agent_streaming(self) -> str:
        path, deltas, completed = self._messages(), 0, False
        body = {"message": "What is on the menu?", "stream": True}
        with self._client.stream("POST", path, json=body) as response:
            if response.status_code != httpx.codes.OK:
                raise CheckFailedError(f"{path} answers {response.status_code}")
            for line in response.iter_lines():
                deltas += line == "event: delta"
                completed = completed or line == "event: completed"
        if not deltas or not completed:
            raise CheckFailedError(f"{deltas} pieces, {'completed' if completed else 'not completed'}")
        return f"{deltas} pieces"

    def voucher(self) -> str:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        order = {"customer_msisdn": SMOKE_MSISDN, "amount": 1}
        number = self._json("POST", "/api/tools/create_voucher", json=order, headers=key)["policy_number"]
        again = self._json("POST", "/api/tools/create_voucher", json=order, headers=key)["policy_number"]
        if again != number:
            raise CheckFailedError("the same Idempotency-Key made two vouchers")
        status = self._json("GET", f"/api/vouchers/{number}")["status"]
        if status != "issued":
            raise CheckFailedError(f"{number} is {status}")
        self._json("POST", "/api/tools/void_voucher", json={"policy_number": number, "reason": "smoke test"})
        return str(number)

    def customer(self) -> str:
        found = self._json("POST", "/api/tools/lookup_customer", json={"msisdn": SMOKE_MSISDN})
        return str(found["id"])

    def metrics(self) -> str:
        response = self._client.get("/metrics")
        if response.status_code != httpx.codes.OK or "agents_build_info" not in response.text:
            raise CheckFailedError(f"status {response.status_code}")
        return f"{len(response.text.splitlines())} lines"

    def _messages(self) -> str:
        return f"/api/agents/sessions/{self._json('POST', '/api/agents/sessions')['id']}/messages"

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        response = self._client.request(method, path, **request)
        if not response.is_success:
            try:
                problem = response.json()["error"]["code"]
            except (KeyError, TypeError, ValueError):
                problem = "no error code"
            raise CheckFailedError(f"{path} answers {response.status_code} ({problem})")
        document: dict[str, Any] = response.json()
        return document
