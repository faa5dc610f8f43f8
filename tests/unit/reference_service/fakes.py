"""The outside world of the reference service, in memory."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from reference.agents_service.errors import ApiError, DailyBudgetExceededError, SessionBudgetExceededError
from reference.agents_service.revision import REVISION
from reference.agents_service.store import AgentSession, Customer, Event, Spend, Usage, Voucher

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

ISSUER = "https://login.test"
AUDIENCE = "agents"
OPENAI = "https://openai.test/v1"
SUPABASE = "https://supabase.test"

ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-test-0123456789",
    "OPENAI_BASE_URL": OPENAI,
    "OPENAI_DEFAULT_MODEL": "gpt-4o",
    "OPENAI_LOW_COST_MODEL": "gpt-4o-mini",
    "OPENAI_FAILOVER_MODEL": "gpt-4.1",
    "AGENTS_MENU_VECTOR_STORE_ID": "vs_menu",
    "AGENTS_ALLERGENS_VECTOR_STORE_ID": "vs_allergens",
    "AGENTS_POLICIES_VECTOR_STORE_ID": "vs_policies",
    "SUPABASE_URL": SUPABASE,
    "SUPABASE_SERVICE_ROLE_KEY": "service-role-key-0123",
    "DATABASE_URL": "postgresql://agents:database-password@db.test/agents",
    "OIDC_ISSUER": ISSUER,
    "OIDC_AUDIENCE": f"{AUDIENCE}, oauth2-proxy",
    "WHATSAPP_VERIFY_TOKEN": "verify-token-0123",
    "WHATSAPP_APP_SECRET": "app-secret-0123",
    "METRICS_TOKEN": "metrics-token-0123",
    "GIT_SHA": "abc123",
}


@dataclass
class FakeStore:
    """Store without a database; `down` makes it fail as one that is away."""

    revisions: frozenset[str] = frozenset({REVISION})
    down: bool = False
    daily_elsewhere: Decimal = Decimal(0)
    sessions: dict[uuid.UUID, AgentSession] = field(default_factory=dict)
    reservations: dict[uuid.UUID, tuple[uuid.UUID, Decimal]] = field(default_factory=dict)
    usages: list[Usage] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    customers: dict[str, Customer] = field(default_factory=dict)
    vouchers: dict[str, Voucher] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    message_ids: set[str] = field(default_factory=set)

    async def supported_revisions(self) -> frozenset[str]:
        if self.down:
            raise ConnectionError("database is away")
        return self.revisions

    async def create_session(self, subject: str, tenant_group: str) -> AgentSession:
        session = AgentSession(uuid.uuid4(), subject, tenant_group, None)
        self.sessions[session.id] = session
        return session

    async def get_session(self, session_id: uuid.UUID, subject: str) -> AgentSession | None:
        session = self.sessions.get(session_id)
        return session if session and session.subject == subject else None

    async def set_last_response(self, session_id: uuid.UUID, response_id: str) -> None:
        self.sessions[session_id] = replace(self.sessions[session_id], last_response_id=response_id)

    async def spend(self, session_id: uuid.UUID) -> Spend:
        amounts = list(self.reservations.values())
        session = sum((usd for owner, usd in amounts if owner == session_id), Decimal(0))
        return Spend(session, self.daily_elsewhere + sum((usd for _, usd in amounts), Decimal(0)))

    async def reserve(
        self, session: AgentSession, usd: Decimal, *, session_budget: Decimal, daily_budget: Decimal
    ) -> uuid.UUID:
        spent = await self.spend(session.id)
        if spent.session + usd > session_budget:
            raise SessionBudgetExceededError
        if spent.daily + usd > daily_budget:
            raise DailyBudgetExceededError
        reservation = uuid.uuid4()
        self.reservations[reservation] = (session.id, usd)
        return reservation

    async def settle(self, reservation: uuid.UUID, usage: Usage) -> None:
        self.usages.append(usage)
        self.reservations[reservation] = (self.reservations[reservation][0], usage.usd)

    async def release(self, reservation: uuid.UUID) -> None:
        del self.reservations[reservation]

    async def activity(self) -> tuple[Decimal, int]:
        if self.down:
            raise ConnectionError("database is away")
        return Decimal("1.5"), 3

    async def find_customer(self, msisdn: str) -> Customer | None:
        return self.customers.get(msisdn)

    async def create_voucher(
        self, *, msisdn: str, amount: int, currency: str, issued_by: str, idempotency: tuple[str, str] | None
    ) -> tuple[Voucher, bool]:
        if idempotency and (issued_by, idempotency[0]) in self.keys:
            digest, number = self.keys[issued_by, idempotency[0]]
            if digest != idempotency[1]:
                raise ApiError(422, "idempotency_key_reused", "other request")
            return self.vouchers[number], False
        now = datetime.now(UTC)
        customer = self.customers.setdefault(msisdn, Customer(uuid.uuid4(), msisdn, None, now))
        number = f"AI-{len(self.vouchers):012X}"
        voucher = Voucher(uuid.uuid4(), number, customer.id, amount, currency, "issued", now, now)
        self.vouchers[number] = voucher
        if idempotency:
            self.keys[issued_by, idempotency[0]] = (idempotency[1], number)
        return voucher, True

    async def find_voucher(self, policy_number: str) -> Voucher | None:
        return self.vouchers.get(policy_number)

    async def close_voucher(self, policy_number: str, status: str, reason: str | None) -> Voucher | None:
        voucher = self.vouchers.get(policy_number)
        if voucher is None:
            return None
        if voucher.status != "issued":
            raise ApiError(409, f"voucher_{voucher.status}", "closed")
        self.vouchers[policy_number] = replace(voucher, status=status)
        return self.vouchers[policy_number]

    async def accept_message(self, message_id: str, event: Event) -> bool:
        if message_id in self.message_ids:
            return False
        self.message_ids.add(message_id)
        self.events.append(event)
        return True

    async def add_event(self, event: Event) -> None:
        self.events.append(event)


@dataclass
class IdentityProvider:
    """Issues tokens and serves its keys, `kid` to private key and algorithm, after `others` as they are."""

    keys: dict[str, tuple[PrivateKey, str]] = field(
        default_factory=lambda: {
            "rsa": (rsa.generate_private_key(65537, 2048), "RS256"),
            "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        }
    )
    others: list[object] = field(default_factory=list)
    down: bool = False
    key_requests: int = 0

    def token(self, kid: str = "rsa", *, signed_by: PrivateKey | None = None, **claims: object) -> str:
        key, algorithm = self.keys[kid]
        now = int(time.time())
        payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, signed_by or key, algorithm, headers={"kid": kid})

    def unsigned_token(self, **header: object) -> str:
        def part(document: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 300}
        return f"{part({'alg': 'none', 'kid': 'rsa', **header})}.{part(claims)}."

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("identity provider is away")
        if request.url.path.endswith("/openid-configuration"):
            return httpx.Response(200, json={"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"})
        self.key_requests += 1
        return httpx.Response(200, json={"keys": [*self.others, *map(self._jwk, self.keys)]})

    def _jwk(self, kid: str) -> dict[str, Any]:
        key, algorithm = self.keys[kid]
        document: dict[str, Any]
        if isinstance(key, rsa.RSAPrivateKey):
            document = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        else:
            document = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return {**document, "kid": kid, "use": "sig", "alg": algorithm}


def model_answer(
    text: str, *, calls: list[dict[str, str]] | None = None, tokens: int = 100
) -> dict[str, Any]:
    """Return a document as the Responses API gives it."""
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    functions = [{"type": "function_call", **call} for call in calls or []]
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "status": "completed",
        "output": [*([message] if text else []), *functions],
        "usage": {"input_tokens": tokens, "output_tokens": tokens},
    }


def model_stream(*deltas: str, end: bool = True) -> httpx.Response:
    """Return a streamed answer of some pieces; without `end` it breaks off."""
    events: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "delta": delta} for delta in deltas
    ]
    if end:
        events.append({"type": "response.completed", "response": model_answer("".join(deltas))})
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return httpx.Response(200, text=body, headers={"Content-Type": "text/event-stream"})


@dataclass
class Vendors:
    """OpenAI and Supabase: `model` answers a request's JSON, `flags` are the rows."""

    model: Callable[[dict[str, Any]], httpx.Response] = lambda request: (
        model_stream("Isombe is", " good today.")
        if request["stream"]
        else httpx.Response(200, json=model_answer("Isombe is good today."))
    )
    flags: list[dict[str, Any]] = field(default_factory=list)
    flags_down: bool = False
    requests: list[httpx.Request] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if str(request.url).startswith(SUPABASE):
            return self._supabase(request)
        if request.url.path.endswith("/realtime/client_secrets"):
            return httpx.Response(200, json={"value": "ek_1", "expires_at": 1})
        return self.model(json.loads(request.content))

    def _supabase(self, request: httpx.Request) -> httpx.Response:
        if self.flags_down:
            return httpx.Response(503)
        if request.method == "POST":
            for row in json.loads(request.content):
                key = row["key"], row["tenant_group"]
                self.flags = [f for f in self.flags if (f["key"], f["tenant_group"]) != key] + [row]
            return httpx.Response(201)
        return httpx.Response(200, json=self.flags)

    def models_asked(self) -> list[str]:
        return [
            json.loads(request.content)["model"]
            for request in self.requests
            if request.url.path.endswith("/responses")
        ]
