"""What each kind asks, and what counts as answered: a status alone never does."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from tests.load.plan import Kind, Plan, Tick
from tests.load.wire import Request

TOKEN_SECONDS = 0.02
"""Seconds that the model's double takes for a word of a stream."""
WORD = "menu "
WEBHOOK_PATH = "/api/whatsapp/webhook"
_STREAM_END = "event: completed\ndata: "
_STREAM_ERROR = "event: error\ndata: "


class WrongAnswerError(Exception):
    """A whole answer, but not the one that was asked for; the message says why."""


@dataclass
class Credentials:
    """A bearer token, which may change on the way, the webhook's secret, and sessions for streams."""

    token: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """Who answered, where the answer tells."""

    release: str | None = None
    region: str | None = None


def write_key(run: str, number: int | str) -> str:
    """Identifies a write of a run: message id or idempotency key."""
    return f"load-{run}-{number}"


def customer(run: str) -> str:
    """Phone number of the customer who gets the vouchers of a run, and nobody else's."""
    return f"+25079{int(run, 16) % 10**7:07d}"


def spoken(plan: Plan) -> str:
    """Message of a stream: the double says it back, a word at a time."""
    return (WORD * max(1, round(plan.stream_seconds / TOKEN_SECONDS))).strip()


class Kinds:
    """Requests of a run."""

    def __init__(self, run: str, plan: Plan, credentials: Credentials) -> None:
        if plan.mix.get(Kind.STREAM) and not credentials.sessions:
            raise ValueError("streams are planned, but there is no session for them")
        self._run = run
        self._plan = plan
        self.credentials = credentials

    def request(self, tick: Tick) -> Request:
        """What is sent for a tick."""
        headers = {"Accept": "application/json", "X-Correlation-ID": write_key(self._run, tick.number)}
        seconds = self._plan.timeout
        if tick.kind is Kind.WEBHOOK:
            body = self._message(tick.number)
            secret = self.credentials.webhook_secret.encode()
            signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
            headers |= {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
            return Request("POST", WEBHOOK_PATH, headers, body, seconds)
        headers["Authorization"] = f"Bearer {self.credentials.token}"
        if tick.kind is Kind.WHOAMI:
            return Request("GET", "/api/whoami", headers, b"", seconds)
        if tick.kind is Kind.HEALTH:
            return Request("GET", "/health", headers, b"", seconds)
        headers["Content-Type"] = "application/json"
        if tick.kind is Kind.VOUCHER:
            headers["Idempotency-Key"] = write_key(self._run, tick.number)
            order = json.dumps({"customer_msisdn": customer(self._run), "amount": 1}).encode()
            return Request("POST", "/api/tools/create_voucher", headers, order, seconds)
        sessions = self.credentials.sessions
        session = sessions[tick.number // len(self._plan.cycle) % len(sessions)]
        asked = json.dumps({"message": spoken(self._plan), "stream": True}).encode()
        path = f"/api/agents/sessions/{session}/messages"
        return Request("POST", path, headers, asked, seconds + self._plan.stream_seconds)

    def _message(self, number: int) -> bytes:
        message = {
            "id": write_key(self._run, number),
            "from": customer(self._run).removeprefix("+"),
            "type": "text",
            "text": {"body": "load"},
        }
        change = {"field": "messages", "value": {"messages": [message]}}
        entry = [{"id": "0", "changes": [change]}]
        return json.dumps({"object": "whatsapp_business_account", "entry": entry}).encode()

    def check(self, tick: Tick, status: int, body: bytes) -> Said:
        """Who answered; WrongAnswerError unless it is what was asked for."""
        want = 201 if tick.kind is Kind.VOUCHER else 200
        if status != want:
            raise WrongAnswerError(f"status {status}")
        if tick.kind is Kind.STREAM:
            self._check_stream(body)
            return Said()
        document = _object(body)
        if tick.kind is Kind.WHOAMI and not document.get("subject"):
            raise WrongAnswerError("answer: no subject")
        if tick.kind is Kind.VOUCHER and not document.get("policy_number"):
            raise WrongAnswerError("answer: no policy_number")
        if tick.kind is Kind.WEBHOOK and document != {"accepted": 1, "duplicates": 0}:
            raise WrongAnswerError(f"answer: {json.dumps(document)[:80]}, though sent once")
        if tick.kind is Kind.HEALTH:
            if not document.get("git_sha"):
                raise WrongAnswerError("answer: no git_sha")
            return Said(str(document["git_sha"]), document.get("region"))
        return Said()

    def _check_stream(self, body: bytes) -> None:
        events = body.decode(errors="replace")
        if _STREAM_ERROR in events:
            problem = events.partition(_STREAM_ERROR)[2].partition("\n")[0]
            raise WrongAnswerError(f"stream: error {problem[:80]}")
        _, found, end = events.partition(_STREAM_END)
        if not found or not end.endswith("\n\n"):
            raise WrongAnswerError("stream: ends before it is complete")
        if spoken(self._plan) not in str(_object(end.encode()).get("text")):
            raise WrongAnswerError("stream: the text is not whole")


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        raise WrongAnswerError("answer: not JSON") from None
    if not isinstance(document, dict):
        raise WrongAnswerError("answer: not a JSON object")
    return document
