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
_SESSIONS: Final = "/api/agents/sessions"
_VOUCHERS: Final = "/api/tools/create_voucher"


class SmokeSettings(_Base):
    """Where the service is, a token for it, and which parts of it are off."""

    agents_url: HttpUrl
    smoke_token: Secret
    smoke_timeout_seconds: float = 30
    smoke_report_file: Path | None = None
    smoke_expect_git_sha: str | None = None
    ai_responses_enabled: bool = True
    feature_agent_chat: bool = True
    feature_agent_vouchers: bool = True

    def off(self) -> frozenset[str]:
        """Switches that are off."""
        names = ("ai_responses_enabled", "feature_agent_chat", "feature_agent_vouchers")
        return frozenset(name.upper() for name in names if not getattr(self, name))


class SwitchedOffError(Exception):
    """What a check wants is switched off, as it should be."""


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
        results = run(client, settings.smoke_expect_git_sha, settings.off())
    for result in results:
        mark = "ok  " if result.passed else "FAIL"
        print(f"{mark} {result.check}: {result.detail} ({result.milliseconds} ms)")
    if settings.smoke_report_file is not None:
        report = json.dumps([asdict(result) for result in results], indent=2)
        settings.smoke_report_file.write_text(report, encoding="utf-8")
    return 0 if all(result.passed for result in results) else 1


def run(
    client: httpx.Client, expect_git_sha: str | None = None, off: frozenset[str] = frozenset()
) -> list[Result]:
    """Run all checks; what the switches in `off` turn off must say so."""
    suite = _Suite(client, expect_git_sha, off)
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
    except SwitchedOffError as off:
        detail, passed = f"{off} is off, and says so", True
    except CheckFailedError as error:
        detail, passed = str(error), False
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        detail, passed = f"{type(error).__name__}: {error}", False
    return Result(name, passed, detail, round((time.perf_counter() - started) * 1000))


class _Suite:
    def __init__(self, client: httpx.Client, expect_git_sha: str | None, off: frozenset[str]) -> None:
        self._client = client
        self._expect_git_sha = expect_git_sha
        self._off = off

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
        self._expect_off("AI_RESPONSES_ENABLED", "FEATURE_AGENT_CHAT", path=_SESSIONS)
        answer = self._json("POST", self._messages(), json={"message": "What is on the menu?"})
        if not answer["text"]:
            raise CheckFailedError("the answer is empty")
        return f"answered by {answer['model']} for {answer['usage']['cost_usd']} USD"

    def agent_streaming(self) -> str:
        self._expect_off("AI_RESPONSES_ENABLED", "FEATURE_AGENT_CHAT", path=_SESSIONS)
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
        self._expect_off("FEATURE_AGENT_VOUCHERS", path=_VOUCHERS, json=order, headers=key)
        number = self._json("POST", _VOUCHERS, json=order, headers=key)["policy_number"]
        again = self._json("POST", _VOUCHERS, json=order, headers=key)["policy_number"]
        if again != number:
            raise CheckFailedError("the same Idempotency-Key made two vouchers")
        status = self._json("GET", f"/api/vouchers/{number}")["status"]
        if status != "issued":
            raise CheckFailedError(f"{number} is {status}")
        self._json("POST", "/api/tools/void_voucher", json={"policy_number": number, "reason": "smoke test"})
        return str(number)

    def customer(self) -> str:
        response = self._client.post("/api/tools/lookup_customer", json={"msisdn": SMOKE_MSISDN})
        if response.status_code == httpx.codes.NOT_FOUND and "FEATURE_AGENT_VOUCHERS" in self._off:
            return "not known yet: no voucher could be made"
        return str(self._document(response)["id"])

    def metrics(self) -> str:
        response = self._client.get("/metrics")
        if response.status_code != httpx.codes.OK or "agents_build_info" not in response.text:
            raise CheckFailedError(f"status {response.status_code}")
        return f"{len(response.text.splitlines())} lines"

    def _messages(self) -> str:
        return f"{_SESSIONS}/{self._json('POST', _SESSIONS)['id']}/messages"

    def _expect_off(self, *switches: str, path: str, **request: Any) -> None:
        """Where one of the switches is off, see that the answer says so, and end the check."""
        off = [switch for switch in switches if switch in self._off]
        if not off:
            return
        response = self._client.post(path, **request)
        code = _code(response)
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or code != f"switched_off.{off[0]}":
            raise CheckFailedError(f"{off[0]} is off, and {path} answers {response.status_code} ({code})")
        raise SwitchedOffError(off[0])

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        return self._document(self._client.request(method, path, **request))

    @staticmethod
    def _document(response: httpx.Response) -> dict[str, Any]:
        if not response.is_success:
            path = response.request.url.path
            raise CheckFailedError(f"{path} answers {response.status_code} ({_code(response)})")
        document: dict[str, Any] = response.json()
        return document


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (KeyError, TypeError, ValueError):
        return "no error code"
