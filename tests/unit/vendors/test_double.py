"""Faults, and what survives a restart."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from reference.vendors.store import Store
from tests.unit.vendors.conftest import Double, start

MODELS = "/openai/v1/models"
SERVICE = {"Authorization": "Bearer sk-proj-first-key-of-the-service"}
BOT = {"Authorization": "Bearer xoxb-first"}


def test_a_vendor_that_is_down_leaves_the_others_alone(double: Double) -> None:
    assert double.control.put("/faults/openai", json={"mode": "down"}).status_code == 200
    assert double.api.get(MODELS, headers=SERVICE).status_code == 503
    assert double.api.post("/slack/api/auth.test", headers=BOT).json()["ok"] is True
    assert double.control.delete("/faults/openai").status_code == 204
    assert double.api.get(MODELS, headers=SERVICE).status_code == 200


def test_garbage_is_no_json(double: Double) -> None:
    double.control.put("/faults/openai", json={"mode": "garbage"})
    answer = double.api.get(MODELS, headers=SERVICE)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Expecting|Invalid|delimiter"):
        answer.json()


def test_errors_and_latency(double: Double) -> None:
    double.control.put("/faults/openai", json={"error_rate": 1, "error_status": 429, "latency_ms": 50})
    began = time.monotonic()
    assert double.api.get(MODELS, headers=SERVICE).status_code == 429
    assert time.monotonic() - began >= 0.05


def test_control_refuses_what_it_does_not_know_and_is_not_on_the_vendors_port(double: Double) -> None:
    assert double.control.put("/faults/openai", json={"error_rate": 2}).status_code == 422
    assert double.control.put("/faults/nobody", json={}).status_code == 404
    assert double.api.get("/faults").status_code == 404


def test_calls_are_counted(double: Double) -> None:
    double.api.get(MODELS, headers=SERVICE)
    double.api.get(MODELS)
    assert [call["status"] for call in double.control.get("/calls/openai").json()] == [200, 401]


def test_a_restart_keeps_messages_and_does_not_bring_revoked_keys_back(tmp_path: Path) -> None:
    database = tmp_path / "vendors.sqlite"
    admin = {"Authorization": "Bearer sk-admin-first-key"}
    before, store, _ = start(database)
    posted = before.api.post(
        "/slack/api/chat.postMessage", json={"channel": "status", "text": "kept"}, headers=BOT
    ).json()
    base = "/openai/v1/organization/projects/proj_icupa_agents/service_accounts"
    (account,) = before.api.get(base, headers=admin).json()["data"]
    before.api.delete(f"{base}/{account['id']}", headers=admin)
    store.close()

    after, store, _ = start(database)
    assert after.api.get(MODELS, headers=SERVICE).status_code == 401
    history = after.api.get(
        "/slack/api/conversations.history", params={"channel": posted["channel"]}, headers=BOT
    ).json()
    assert [message["text"] for message in history["messages"]] == ["kept"]
    store.close()


def test_no_credential_is_stored_in_clear_text(double: Double) -> None:
    contents = b"".join(path.read_bytes() for path in double.database.parent.iterdir())
    assert b"sk-proj-first-key-of-the-service" not in contents
    assert b"xoxb-first" not in contents


def test_what_is_half_done_is_seen_by_nobody_else(tmp_path: Path) -> None:
    """And so no two threads ever have the connection at once."""
    store = Store(tmp_path / "vendors.sqlite")
    with ThreadPoolExecutor(1) as other:
        with store.transaction():
            store.put("kind", "key", {"half": True})
            seen = other.submit(store.get, "kind", "key")
            assert wait([seen], timeout=0.2).not_done
            store.put("kind", "key", {"half": False})
        assert seen.result(timeout=10) == {"half": False}
    store.close()
