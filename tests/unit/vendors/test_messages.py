"""Slack, PagerDuty and the status page: what was posted can be read back."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from infra.world import vendors

BOT = {"Authorization": "Bearer xoxb-first"}
REST = {"Authorization": "Token token=rest-first"}
PAGE = f"/statuspage/v1/pages/{vendors.STATUS_PAGE}"
OAUTH = {"Authorization": "OAuth statuspage-first"}


def history(api: TestClient, channel: str, **more: Any) -> list[dict[str, Any]]:
    answer = api.get(
        "/slack/api/conversations.history", params={"channel": channel, **more}, headers=BOT
    ).json()
    assert answer["ok"], answer
    found: list[dict[str, Any]] = answer["messages"]
    return found


def test_a_slack_message_is_read_back_newest_first(api: TestClient) -> None:
    for text in ("first", "second"):
        posted = api.post(
            "/slack/api/chat.postMessage", json={"channel": "#deployments", "text": text}, headers=BOT
        ).json()
        assert posted["ok"] is True
    channel = posted["channel"]
    assert [message["text"] for message in history(api, channel)] == ["second", "first"]
    oldest = history(api, channel)[-1]["ts"]
    assert [message["text"] for message in history(api, channel, oldest=oldest)] == ["second"]


def test_a_slack_message_is_changed_in_its_place(api: TestClient) -> None:
    posted = api.post(
        "/slack/api/chat.postMessage", data={"channel": "status", "text": "a"}, headers=BOT
    ).json()
    changed = {"channel": posted["channel"], "ts": posted["ts"], "text": "b"}
    assert api.post("/slack/api/chat.update", json=changed, headers=BOT).json()["ok"] is True
    assert [message["text"] for message in history(api, posted["channel"])] == ["b"]


def test_slack_says_no_in_its_own_way(api: TestClient) -> None:
    def error(headers: dict[str, str], **asked: str) -> str:
        answer = api.post("/slack/api/chat.postMessage", json=asked, headers=headers)
        assert answer.status_code == 200
        problem: str = answer.json()["error"]
        return problem

    assert error({}, channel="status", text="x") == "not_authed"
    assert error({"Authorization": "Bearer xoxb-revoked"}, channel="status", text="x") == "invalid_auth"
    assert error(BOT, channel="nowhere", text="x") == "channel_not_found"
    assert error(BOT, channel="status") == "no_text"


def test_an_incoming_webhook_posts_to_its_channel(api: TestClient) -> None:
    sent = api.post("/slack/services/T1/B1/secret", json={"text": "by webhook"})
    assert (sent.status_code, sent.text) == (200, "ok")
    channels = api.get("/slack/api/conversations.list", headers=BOT).json()["channels"]
    channel = next(item["id"] for item in channels if item["name"] == "deployments")
    assert [message["text"] for message in history(api, channel)] == ["by webhook"]
    assert api.post("/slack/services/T1/B1/guessed", json={"text": "x"}).status_code == 404


def event(action: str, **more: Any) -> dict[str, Any]:
    return {"routing_key": "routing-first", "event_action": action, "dedup_key": "agents-down", **more}


PAYLOAD = {"summary": "agents are down", "source": "prometheus", "severity": "critical"}


def test_an_incident_opens_once_and_resolves(api: TestClient) -> None:
    for _ in range(2):
        assert api.post("/pagerduty/v2/enqueue", json=event("trigger", payload=PAYLOAD)).status_code == 202
    (incident,) = api.get("/pagerduty/incidents", headers=REST).json()["incidents"]
    assert (incident["title"], incident["status"]) == ("agents are down", "triggered")
    api.post("/pagerduty/v2/enqueue", json=event("acknowledge"))
    still = api.get("/pagerduty/incidents", params={"statuses[]": "acknowledged"}, headers=REST).json()
    assert len(still["incidents"]) == 1
    api.post("/pagerduty/v2/enqueue", json=event("resolve"))
    one = api.get(f"/pagerduty/incidents/{incident['id']}", headers=REST).json()["incident"]
    assert one["status"] == "resolved"
    api.post("/pagerduty/v2/enqueue", json=event("trigger", payload=PAYLOAD))
    assert len(api.get("/pagerduty/incidents", headers=REST).json()["incidents"]) == 2


def test_an_invalid_event_or_key_is_refused(api: TestClient) -> None:
    assert api.post("/pagerduty/v2/enqueue", json=event("trigger")).status_code == 400
    wrong = {**event("trigger", payload=PAYLOAD), "routing_key": "revoked"}
    assert api.post("/pagerduty/v2/enqueue", json=wrong).status_code == 400
    assert api.get("/pagerduty/incidents").status_code == 401
    assert api.get("/pagerduty/incidents", headers=REST).json()["incidents"] == []


def test_a_status_incident_is_opened_updated_and_resolved(api: TestClient) -> None:
    component = api.get(f"{PAGE}/components", headers=OAUTH).json()[0]
    asked = {
        "incident": {
            "name": "Slow answers",
            "body": "Looking",
            "components": {component["id"]: "partial_outage"},
        }
    }
    made = api.post(f"{PAGE}/incidents", json=asked, headers=OAUTH)
    assert (made.status_code, made.json()["status"]) == (201, "investigating")
    assert api.get(f"{PAGE}/components", headers=OAUTH).json()[0]["status"] == "partial_outage"
    path = f"{PAGE}/incidents/{made.json()['id']}"
    api.patch(path, json={"incident": {"status": "resolved", "body": "Fixed"}}, headers=OAUTH)
    read = api.get(path, headers=OAUTH).json()
    assert [update["body"] for update in read["incident_updates"]] == ["Fixed", "Looking"]
    assert read["resolved_at"]
    assert api.get(f"{PAGE}/incidents/unresolved", headers=OAUTH).json() == []


def test_the_status_page_refuses_bad_keys_and_states(api: TestClient) -> None:
    assert api.get(f"{PAGE}/incidents", headers={"Authorization": "OAuth revoked"}).status_code == 401
    bad = api.post(f"{PAGE}/incidents", json={"incident": {"name": "x", "status": "angry"}}, headers=OAUTH)
    assert bad.status_code == 422
    assert api.get(f"{PAGE}/incidents", headers=OAUTH).json() == []
