"""Health, drain, switches, tools, webhook, limits."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from reference.agents_service.config import SWITCHES
from reference.agents_service.context import choose_correlation_id
from reference.agents_service.flags import Flag, FlagTable
from reference.agents_service.revision import REVISION
from reference.agents_service.switches import SwitchesFileError, parse
from tests.unit.reference_service.conftest import Service, Start
from tests.unit.reference_service.fakes import ENVIRONMENT, FakeStore, Vendors

VOUCHER = {"customer_msisdn": "+250788123456", "amount": 10000}
MESSAGES = "/api/agents/sessions/00000000-0000-0000-0000-000000000000/messages"


async def test_health_tells_what_runs(service: Service, store: FakeStore) -> None:
    store.down = True
    for path in ("/health", "/api/health"):
        response = await service.client.get(path)
        assert response.status_code == 200
        assert response.json()["status"] == "ok"
        assert (response.json()["git_sha"], response.json()["schema_revision"]) == ("abc123", REVISION)


async def test_readiness_follows_database_schema_and_drain(service: Service, store: FakeStore) -> None:
    async def ready() -> tuple[int, dict[str, str]]:
        response = await service.client.get("/health/ready")
        return response.status_code, response.json()["checks"]

    good = {"draining": "ok", "database": "ok", "schema": "ok"}
    assert await ready() == (200, good)
    store.revisions = frozenset({REVISION, "9999"})
    assert await ready() == (200, good), "a newer schema that still serves this release is fine"
    store.revisions = frozenset({"9999"})
    assert await ready() == (503, {**good, "schema": f"revision {REVISION} is missing"})
    store.down = True
    assert await ready() == (503, {**good, "database": "unreachable", "schema": "unknown"})
    store.down, store.revisions = False, frozenset({REVISION})
    service.parts.drain.start()
    assert await ready() == (503, {**good, "draining": "draining"})


async def test_while_draining_work_is_done_and_connections_closed(service: Service) -> None:
    assert "Connection" not in (await service.client.get("/health")).headers
    service.parts.drain.start()
    for path, headers in (("/health", {}), ("/api/whoami", service.bearer())):
        response = await service.client.get(path, headers=headers)
        assert (response.status_code, response.headers["Connection"]) == (200, "close")


@pytest.mark.parametrize(
    ("switch", "path"),
    [
        ("AI_RESPONSES_ENABLED", "/api/agents/sessions"),
        ("FEATURE_AGENT_CHAT", "/api/agents/sessions"),
        ("AI_RESPONSES_ENABLED", MESSAGES),
        ("FEATURE_AGENT_CHAT", MESSAGES),
        ("AI_REALTIME_ENABLED", "/api/realtime/sessions"),
        ("FEATURE_AGENT_VOICE", "/api/realtime/sessions"),
        ("FEATURE_AGENT_VOUCHERS", "/api/tools/create_voucher"),
        ("FEATURE_AGENT_VOUCHERS", "/api/tools/redeem_voucher"),
        ("FEATURE_AGENT_VOUCHERS", "/api/tools/void_voucher"),
    ],
)
async def test_a_switch_turns_its_feature_off(start: Start, switch: str, path: str) -> None:
    number = {"policy_number": "AI-000000000000"}
    bodies: dict[str, dict[str, Any]] = {
        MESSAGES: {"message": "Hello"},
        "/api/tools/create_voucher": VOUCHER,
        "/api/tools/redeem_voucher": number,
        "/api/tools/void_voucher": {**number, "reason": "x"},
    }
    async with start(**{switch: "false"}) as service:
        response = await service.client.post(path, json=bodies.get(path), headers=service.bearer())
    assert (response.status_code, response.json()["error"]["code"]) == (503, f"switched_off.{switch}")


async def test_switches_change_without_a_restart(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "switches"

    def write(text: str) -> None:
        staged = tmp_path / "staged"
        staged.write_text(text)
        staged.replace(file)

    async with start(SWITCHES_FILE=str(file)) as service:

        async def status() -> int:
            response = await service.client.post("/api/agents/sessions", headers=service.bearer())
            return response.status_code

        assert await status() == 201
        write("FEATURE_AGENT_CHAT=false\n")
        assert await status() == 503
        write("FEATURE_AGENT_CHAT=perhaps\n")
        assert await status() == 503, "what can't be understood changes nothing"
        write("FEATURE_AGENT_CHAT=true\nOTHER=1\n")
        assert await status() == 201
        assert service.metric("agents_switch_enabled", switch="FEATURE_AGENT_CHAT") == 1


def test_the_switches_file_names_its_bad_line() -> None:
    assert parse("# all\nAI_REALTIME_ENABLED='off'\n\nFEATURE_AGENT_VOICE=1\n") == {
        "AI_REALTIME_ENABLED": False,
        "FEATURE_AGENT_VOICE": True,
    }
    with pytest.raises(SwitchesFileError, match="line 2: FEATURE_AGENT_CHAT"):
        parse("AI_REALTIME_ENABLED=true\nFEATURE_AGENT_CHAT=\n")


async def test_vouchers_are_issued_once_read_back_and_closed_once(service: Service, store: FakeStore) -> None:
    headers = {**service.bearer(), "Idempotency-Key": "order-1"}
    first = await service.client.post("/api/tools/create_voucher", json=VOUCHER, headers=headers)
    again = await service.client.post("/api/tools/create_voucher", json=VOUCHER, headers=headers)
    assert (first.status_code, first.json()) == (201, again.json())
    assert len(store.vouchers) == 1
    other = await service.client.post(
        "/api/tools/create_voucher", json={**VOUCHER, "amount": 1}, headers=headers
    )
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    number = {"policy_number": first.json()["policy_number"]}
    url = f"/api/vouchers/{number['policy_number']}"
    assert (await service.client.get(url, headers=headers)).json()["status"] == "issued"
    redeemed = await service.client.post("/api/tools/redeem_voucher", json=number, headers=headers)
    assert redeemed.json()["status"] == "redeemed"
    voided = await service.client.post(
        "/api/tools/void_voucher", json={**number, "reason": "mistake"}, headers=headers
    )
    assert (voided.status_code, voided.json()["error"]["code"]) == (409, "voucher_redeemed")
    found = await service.client.post(
        "/api/tools/lookup_customer", json={"msisdn": VOUCHER["customer_msisdn"]}, headers=headers
    )
    assert found.json()["msisdn"] == VOUCHER["customer_msisdn"]
    assert service.metric("agents_tool_calls_total", tool="void_voucher", outcome="error") == 1
    assert service.metric("agents_tool_calls_total", tool="lookup_customer", outcome="success") == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/tools/lookup_customer", {"msisdn": "+250788999999"}),
        ("/api/tools/redeem_voucher", {"policy_number": "AI-FFFFFFFFFFFF"}),
        ("/api/tools/void_voucher", {"policy_number": "AI-FFFFFFFFFFFF", "reason": "x"}),
    ],
)
async def test_what_is_not_there_is_404(service: Service, path: str, body: dict[str, str]) -> None:
    assert (await service.client.post(path, json=body, headers=service.bearer())).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/tools/lookup_customer", {"msisdn": "0788"}),
        ("/api/tools/lookup_customer", {"msisdn": "+250788123456' OR 1=1"}),
        ("/api/tools/create_voucher", {**VOUCHER, "amount": 0}),
        ("/api/tools/create_voucher", {**VOUCHER, "amount": -5}),
        ("/api/tools/create_voucher", {**VOUCHER, "other": 1}),
        ("/api/tools/redeem_voucher", {"policy_number": "1"}),
    ],
)
async def test_bad_arguments_are_422(service: Service, path: str, body: dict[str, object]) -> None:
    response = await service.client.post(path, json=body, headers=service.bearer())
    assert (response.status_code, response.json()["error"]["code"]) == (422, "request_invalid")


def notification(*ids: str) -> bytes:
    messages = [{"id": i, "from": "250788123456", "type": "text", "text": {"body": "Hello"}} for i in ids]
    return json.dumps({"entry": [{"changes": [{"value": {"messages": messages}}]}]}).encode()


def signed(body: bytes, key: str = ENVIRONMENT["WHATSAPP_APP_SECRET"]) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}


async def test_the_webhook_is_verified(service: Service) -> None:
    good = {"hub.mode": "subscribe", "hub.verify_token": "verify-token-0123", "hub.challenge": "TEST"}
    response = await service.client.get("/api/whatsapp/webhook", params=good)
    assert (response.status_code, response.text) == (200, "TEST")
    assert response.headers["Content-Type"].startswith("text/plain")
    for wrong in ({"hub.verify_token": "other"}, {"hub.verify_token": ""}, {"hub.mode": "unsubscribe"}):
        response = await service.client.get("/api/whatsapp/webhook", params={**good, **wrong})
        assert response.status_code == 403
    assert (await service.client.get("/api/whatsapp/webhook")).status_code == 403


async def test_messages_are_taken_once(service: Service, store: FakeStore) -> None:
    body = notification("wamid.1", "wamid.2")
    first = await service.client.post("/api/whatsapp/webhook", content=body, headers=signed(body))
    assert (first.status_code, first.json()) == (200, {"accepted": 2, "duplicates": 0})
    again = await service.client.post("/api/whatsapp/webhook", content=body, headers=signed(body))
    assert (again.status_code, again.json()) == (200, {"accepted": 0, "duplicates": 2})
    assert [event.event for event in store.events] == ["ai.whatsapp.message.processing"] * 2
    assert service.metric("agents_whatsapp_messages_total", outcome="duplicate") == 2


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256=00"},
        {"X-Hub-Signature-256": "sha256=é"},
        signed(notification("wamid.1"), "other-secret"),
        signed(notification("wamid.2")),
    ],
)
async def test_a_bad_signature_is_refused(
    service: Service, store: FakeStore, headers: dict[str, str]
) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    response = await service.client.post(
        "/api/whatsapp/webhook", content=notification("wamid.1"), headers=encoded
    )
    assert (response.status_code, response.json()["error"]["code"]) == (401, "bad_signature")
    assert store.events == []


async def test_a_bad_signature_is_refused_even_while_switched_off(start: Start) -> None:
    body = notification("wamid.1")
    async with start(WHATSAPP_INTEGRATION_ENABLED="false") as service:
        assert (await service.client.post("/api/whatsapp/webhook", content=body)).status_code == 401
        response = await service.client.post("/api/whatsapp/webhook", content=body, headers=signed(body))
    assert response.json()["error"]["code"] == "switched_off.WHATSAPP_INTEGRATION_ENABLED"


@pytest.mark.parametrize("body", [b"x", b"{}", b"[]", b'{"entry": [{}]}', b'{"entry": 1}'])
async def test_a_signed_body_of_another_shape_is_400(service: Service, body: bytes) -> None:
    response = await service.client.post("/api/whatsapp/webhook", content=body, headers=signed(body))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "body_malformed")


async def test_a_status_notification_has_no_messages(service: Service) -> None:
    body = json.dumps({"entry": [{"changes": [{"value": {"statuses": [{"id": "x"}]}}]}]}).encode()
    response = await service.client.post("/api/whatsapp/webhook", content=body, headers=signed(body))
    assert response.json() == {"accepted": 0, "duplicates": 0}


async def test_a_body_has_a_limit(service: Service) -> None:
    body = b"x" * (1024 * 1024 + 1)
    response = await service.client.post("/api/whatsapp/webhook", content=body, headers=signed(body))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


async def test_callers_are_limited_one_by_one(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference.agents_service.ratelimit.WINDOW_SECONDS", 10**10)
    async with start(RATE_LIMIT_PER_MINUTE="2") as service:

        async def status(subject: str) -> int:
            headers = service.bearer(sub=subject)
            return (await service.client.post("/api/agents/sessions", headers=headers)).status_code

        assert [await status("alice") for _ in range(3)] == [201, 201, 429]
        assert await status("bob") == 201
        assert service.metric("agents_rate_limited_total", feature="sessions") == 1


async def test_flags_keep_their_last_known_state(
    service: Service, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def enabled() -> bool:
        response = await service.client.get("/api/flags", params={"key": "x"}, headers=service.bearer())
        return bool(response.json()["enabled"])

    clock = 1000.0
    monkeypatch.setattr("reference.agents_service.flags.monotonic", lambda: clock)
    vendors.flags_down = True
    assert await enabled() is False, "what is not known is off"
    vendors.flags_down = False
    vendors.flags = [{"key": "x", "tenant_group": "full", "enabled": True}]
    clock += 2
    assert await enabled() is False, "not read again at once"
    clock += 60
    assert await enabled() is True
    vendors.flags_down = True
    clock += 60
    assert await enabled() is True
    vendors.flags_down, vendors.flags = False, []
    clock += 60
    assert await enabled() is False
    assert service.metric("agents_flag_reads_total", outcome="error") == 2


async def test_a_supabase_that_hangs_slows_no_request_once_flags_are_known(
    service: Service, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference.agents_service.flags.PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("reference.agents_service.flags.CACHE_SECONDS", 0)
    vendors.flags = [{"key": "x", "tenant_group": "full", "enabled": True}]

    async def enabled() -> bool:
        response = await service.client.get("/api/flags", params={"key": "x"}, headers=service.bearer())
        return bool(response.json()["enabled"])

    assert await enabled() is True
    hang = asyncio.Event()

    async def rows(_table: FlagTable) -> list[Flag]:
        await hang.wait()
        return []

    monkeypatch.setattr(FlagTable, "rows", rows)
    async with asyncio.timeout(5):
        assert [await enabled() for _ in range(3)] == [True] * 3
        hang.set()
        while await enabled():
            await asyncio.sleep(0.01)


async def test_a_database_that_is_away_is_told_apart_from_our_failures(
    service: Service, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_msisdn: str) -> None:
        raise OperationalError("SELECT", {}, ConnectionError("gone"))

    monkeypatch.setattr(store, "find_customer", away)
    response = await service.client.post(
        "/api/tools/lookup_customer", json={"msisdn": "+250788123456"}, headers=service.bearer()
    )
    assert (response.status_code, response.json()["error"]["code"]) == (503, "database_unavailable")
    assert response.headers["Retry-After"]


async def test_unknown_paths_need_a_token_too(service: Service) -> None:
    assert (await service.client.get("/nowhere")).status_code == 401
    response = await service.client.get("/nowhere", headers=service.bearer())
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    for path in ("/health/", "//health", "/openapi.json", "/docs", "/api/whatsapp/webhook/"):
        assert (await service.client.get(path)).status_code == 401, path


async def test_requests_are_counted_by_route(service: Service) -> None:
    await service.client.get("/api/vouchers/AI-000000000000", headers=service.bearer())
    name = "agents_http_requests_total"
    assert service.metric(name, method="GET", route="/api/vouchers/{policy_number}", status="404") == 1
    await service.client.get("/health")
    assert service.metric(name, method="GET", route="/health", status="200") is None
    seconds = "agents_http_request_duration_seconds_count"
    assert service.metric(seconds, method="GET", route="/api/vouchers/{policy_number}") == 1


async def test_a_failure_of_ours_is_a_500_that_tells_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, store: FakeStore
) -> None:
    async def broken(_msisdn: str) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(store, "find_customer", broken)
    response = await service.client.post(
        "/api/tools/lookup_customer", json={"msisdn": "+250788123456"}, headers=service.bearer()
    )
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "hunter2" not in response.text


def test_only_harmless_correlation_ids_are_taken_over() -> None:
    assert choose_correlation_id("a-1.b:c_d") == "a-1.b:c_d"
    for offered in (None, "", "a b", "x" * 129, "a\nb", "<script>"):
        assert choose_correlation_id(offered) != offered


def test_every_switch_of_the_sources_is_known() -> None:
    assert set(SWITCHES) == {
        "AI_REALTIME_ENABLED",
        "AI_RESPONSES_ENABLED",
        "WHATSAPP_INTEGRATION_ENABLED",
        "FEATURE_AGENT_CHAT",
        "FEATURE_AGENT_VOICE",
        "FEATURE_AGENT_VOUCHERS",
    }
