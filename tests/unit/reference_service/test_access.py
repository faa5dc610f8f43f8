"""Who is let in (VM-6)."""

from __future__ import annotations

import base64
import hmac
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.unit.reference_service.conftest import Service
from tests.unit.reference_service.fakes import ISSUER, FakeStore, IdentityProvider

PROTECTED = [
    ("GET", "/metrics"),
    ("GET", "/api/metrics"),
    ("GET", "/api/whoami"),
    ("GET", "/api/flags?key=x"),
    ("POST", "/api/agents/sessions"),
    ("POST", "/api/agents/sessions/00000000-0000-0000-0000-000000000000/messages"),
    ("POST", "/api/realtime/sessions"),
    ("POST", "/api/tools/lookup_customer"),
    ("POST", "/api/tools/create_voucher"),
    ("POST", "/api/tools/redeem_voucher"),
    ("POST", "/api/tools/void_voucher"),
    ("GET", "/api/vouchers/AI-000000000000"),
]
IDENTITY_HEADERS = [
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Access-Token",
    "X_Auth_Request_User",
    "X.Auth.Request.User",
    "x-aUTH-rEQUEST-uSER",
    "Remote-User",
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_everything_else_than_health_and_webhook_needs_a_token(
    service: Service, method: str, path: str
) -> None:
    response = await service.client.request(method, path, json={})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "token_missing"
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_list_of_protected_routes_is_complete(service: Service) -> None:
    app = service.client._transport.app  # type: ignore[attr-defined]
    open_paths = {"/health", "/api/health", "/health/ready", "/api/whatsapp/webhook"}
    routes = {route.path.split("{")[0] for route in app.routes} - open_paths
    assert routes == {
        path.split("?")[0].split("000000000000")[0].split("00000000-")[0].removesuffix("AI-")
        for _, path in PROTECTED
    }


@pytest.mark.parametrize("kid", ["rsa", "ec"])
async def test_a_valid_token_is_accepted(service: Service, kid: str) -> None:
    headers = service.bearer(kid=kid, email="alice@icupa.test", tenant_group="pilot")
    response = await service.client.get("/api/whoami", headers=headers)
    assert response.status_code == 200
    assert response.json() == {
        "subject": "alice",
        "email": "alice@icupa.test",
        "tenant_group": "pilot",
        "issuer": ISSUER,
    }


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1}, "token_expired"),
        ({"exp": None}, "token_claim_missing"),
        ({"nbf": int(time.time()) + 600}, "token_not_yet_valid"),
        ({"aud": "somebody-else"}, "token_audience"),
        ({"aud": None}, "token_claim_missing"),
        ({"iss": "https://evil.test"}, "token_issuer"),
        ({"iss": None}, "token_claim_missing"),
        ({"sub": None}, "token_claim_missing"),
    ],
)
async def test_a_token_with_bad_claims_is_refused(
    service: Service, claims: dict[str, object], code: str
) -> None:
    response = await service.client.get("/api/whoami", headers=service.bearer(**claims))
    assert (response.status_code, response.json()["error"]["code"]) == (401, code)


async def test_each_audience_of_the_list_is_accepted(service: Service) -> None:
    response = await service.client.get("/api/whoami", headers=service.bearer(aud="oauth2-proxy"))
    assert response.status_code == 200


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS256", "PS256"])
async def test_other_algorithms_are_refused(service: Service, algorithm: str) -> None:
    token = service.login.unsigned_token(alg=algorithm)
    response = await service.client.get("/api/whoami", headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "token_algorithm")


async def test_the_public_key_is_no_hmac_secret(service: Service) -> None:
    public = service.login.keys["rsa"][0].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = service.login.unsigned_token(alg="HS256").removesuffix(".")
    signature = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), "sha256")).decode().rstrip("=")
    headers = {"Authorization": f"Bearer {signed}.{signature}"}
    assert (await service.client.get("/api/whoami", headers=headers)).status_code == 401


async def test_a_signature_by_another_key_is_refused(service: Service) -> None:
    other = rsa.generate_private_key(65537, 2048)
    response = await service.client.get("/api/whoami", headers=service.bearer(signed_by=other))
    assert (response.status_code, response.json()["error"]["code"]) == (401, "token_invalid")


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer x", "Bearer a.b.c"])
async def test_rubbish_is_refused(service: Service, value: str) -> None:
    response = await service.client.get("/api/whoami", headers={"Authorization": value})
    assert response.status_code == 401


@pytest.mark.parametrize("header", IDENTITY_HEADERS)
async def test_identity_headers_never_count(service: Service, header: str) -> None:
    spoofed = {header: "admin@icupa.dev"}
    assert (await service.client.get("/api/whoami", headers=spoofed)).status_code == 401
    response = await service.client.get("/api/whoami", headers={**spoofed, **service.bearer()})
    assert "admin" not in response.text
    assert response.json()["subject"] == "alice"


async def test_new_keys_are_found_and_unknown_ones_not_asked_for_again_and_again(
    service: Service, login: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await service.client.get("/api/whoami", headers=service.bearer())).status_code == 200
    assert login.key_requests == 1
    login.keys["new"] = (rsa.generate_private_key(65537, 2048), "RS256")
    refused = await service.client.get("/api/whoami", headers=service.bearer(kid="new"))
    assert refused.json()["error"]["code"] == "token_key_unknown"
    assert login.key_requests == 1, "within JWKS_MIN_REFRESH_SECONDS the keys are not fetched again"
    now = time.monotonic()
    monkeypatch.setattr("reference.agents_service.auth.monotonic", lambda: now + 11)
    assert (await service.client.get("/api/whoami", headers=service.bearer(kid="new"))).status_code == 200
    assert login.key_requests == 2


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "EC", "crv": "P-192", "x": "AA", "y": "AA", "kid": "other"},
        {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "other"},
        {"kty": "RSA", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB", "kid": "other"},
        {"kty": "RSA", "kid": "other"},
    ],
)
async def test_a_key_of_another_kind_keeps_nobody_out(
    service: Service, login: IdentityProvider, other: dict[str, str]
) -> None:
    login.others = [other]
    assert (await service.client.get("/api/whoami", headers=service.bearer())).status_code == 200


async def test_an_answer_that_is_no_set_of_keys_is_an_outage(
    service: Service, login: IdentityProvider
) -> None:
    login.others = ["not a key"]
    refused = await service.client.get("/api/whoami", headers=service.bearer())
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "identity_provider_unavailable")


async def test_an_outage_of_the_identity_provider_refuses_only_where_no_keys_are_known(
    service: Service, login: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    login.down = True
    refused = await service.client.get("/api/whoami", headers=service.bearer())
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "identity_provider_unavailable")
    login.down = False
    now = time.monotonic()
    monkeypatch.setattr("reference.agents_service.auth.monotonic", lambda: now + 2)
    assert (await service.client.get("/api/whoami", headers=service.bearer())).status_code == 200
    login.down = True
    monkeypatch.setattr("reference.agents_service.auth.monotonic", lambda: now + 7200)
    assert (await service.client.get("/api/whoami", headers=service.bearer())).status_code == 200


async def test_metrics_take_the_static_token_or_a_jwt(service: Service, store: FakeStore) -> None:
    for headers in ({"Authorization": "Bearer metrics-token-0123"}, service.bearer()):
        for path in ("/metrics", "/api/metrics"):
            response = await service.client.get(path, headers=headers)
            assert response.status_code == 200
            assert 'agents_build_info{git_sha="abc123"' in response.text
            assert "agents_daily_spend_usd 1.5" in response.text
    store.down = True
    response = await service.client.get("/metrics", headers=service.bearer())
    assert response.status_code == 200
    wrong = await service.client.get("/metrics", headers={"Authorization": "Bearer metrics-token-0124"})
    assert wrong.status_code == 401
