from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient

from infra.world import vendors

SERVICE = {"Authorization": "Bearer sk-proj-first-key-of-the-service"}
ADMIN = {"Authorization": "Bearer sk-admin-first-key"}
ACCOUNTS = f"/openai/v1/organization/projects/{vendors.OPENAI_PROJECT}/service_accounts"
KEYS = f"/openai/v1/organization/projects/{vendors.OPENAI_PROJECT}/api_keys"


def respond(api: TestClient, headers: dict[str, str] = SERVICE, **asked: Any) -> Any:
    return api.post(
        "/openai/v1/responses", json={"model": "gpt-4.1", "input": "Hello", **asked}, headers=headers
    )


def events(text: str) -> list[dict[str, Any]]:
    return [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
    ]


def test_a_response_has_text_and_usage(api: TestClient) -> None:
    document = respond(api, instructions="Be brief.").json()
    assert document["output"][0]["content"][0]["text"] == "You said: Hello"
    usage = document["usage"]
    assert usage["input_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_stream_ends_with_the_same_text(api: TestClient) -> None:
    response = respond(api, input="one two three", stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    got = events(response.text)
    assert [item["sequence_number"] for item in got] == list(range(len(got)))
    deltas = [item["delta"] for item in got if item["type"] == "response.output_text.delta"]
    assert len(deltas) > 1
    assert got[-1]["type"] == "response.completed"
    text = got[-1]["response"]["output"][0]["content"][0]["text"]
    assert "".join(deltas) == text == "You said: one two three"


def test_a_named_function_is_called_with_the_given_arguments(api: TestClient) -> None:
    tools = [{"type": "function", "name": "lookup_customer", "parameters": {}}]
    asked = 'Please use lookup_customer {"phone": "+35699"}'
    call = respond(api, input=[{"role": "user", "content": asked}], tools=tools).json()
    item = call["output"][0]
    assert (item["type"], item["name"], json.loads(item["arguments"])) == (
        "function_call",
        "lookup_customer",
        {"phone": "+35699"},
    )
    result = [{"type": "function_call_output", "call_id": item["call_id"], "output": '{"name": "Ann"}'}]
    answer = respond(api, input=result, tools=tools, previous_response_id=call["id"]).json()
    assert "Ann" in answer["output"][0]["content"][0]["text"]


def test_an_answer_is_cut_at_max_output_tokens(api: TestClient) -> None:
    document = respond(api, input="word " * 50, max_output_tokens=5).json()
    assert document["status"] == "incomplete"
    assert document["incomplete_details"] == {"reason": "max_output_tokens"}
    assert document["usage"]["output_tokens"] == 5


def test_unknown_model_and_unknown_previous_response_are_refused(api: TestClient) -> None:
    assert respond(api, model="gpt-0").json()["error"]["code"] == "model_not_found"
    refused = respond(api, previous_response_id="resp_never")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "previous_response_not_found")


def test_who_has_no_valid_key_is_refused(api: TestClient) -> None:
    assert respond(api, headers={}).status_code == 401
    wrong = respond(api, headers={"Authorization": "Bearer sk-proj-somebody-elses"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "sk-proj-somebody-elses" not in wrong.text


def test_a_revoked_key_stops_working_at_once_and_others_go_on(api: TestClient) -> None:
    made = api.post(ACCOUNTS, json={"name": "rotation"}, headers=ADMIN).json()
    fresh = {"Authorization": f"Bearer {made['api_key']['value']}"}
    assert respond(api, headers=fresh).status_code == 200
    assert api.delete(f"{ACCOUNTS}/{made['id']}", headers=ADMIN).json()["deleted"] is True
    assert respond(api, headers=fresh).status_code == 401
    assert respond(api).status_code == 200


def test_the_first_key_is_found_and_revoked_by_its_service_account(api: TestClient) -> None:
    (key,) = api.get(KEYS, headers=ADMIN).json()["data"]
    assert "sk-proj-first-key-of-the-service" not in json.dumps(key)
    assert api.delete(f"{KEYS}/{key['id']}", headers=ADMIN).status_code == 400
    assert respond(api).status_code == 200
    account = key["owner"]["service_account"]["id"]
    api.delete(f"{ACCOUNTS}/{account}", headers=ADMIN)
    assert respond(api).status_code == 401


def test_service_and_administrator_keys_are_not_interchangeable(api: TestClient) -> None:
    assert api.get(KEYS, headers=SERVICE).status_code == 403
    assert respond(api, headers=ADMIN).status_code == 401


def test_an_administrator_key_can_be_replaced(api: TestClient) -> None:
    made = api.post("/openai/v1/organization/admin_api_keys", json={"name": "next"}, headers=ADMIN).json()
    following = {"Authorization": f"Bearer {made['value']}"}
    old = next(
        key
        for key in api.get("/openai/v1/organization/admin_api_keys", headers=following).json()["data"]
        if key["id"] != made["id"]
    )
    api.delete(f"/openai/v1/organization/admin_api_keys/{old['id']}", headers=following)
    assert api.get(KEYS, headers=ADMIN).status_code == 401
    assert api.get(KEYS, headers=following).status_code == 200


def test_costs_follow_usage(api: TestClient) -> None:
    path = "/openai/v1/organization/costs"
    assert api.get(path, params={"start_time": 0}, headers=ADMIN).json()["data"] == []
    usage = respond(api, input="x" * 4000).json()["usage"]
    (bucket,) = api.get(path, params={"start_time": 0}, headers=ADMIN).json()["data"]
    price = vendors.MODELS["gpt-4.1"]
    expected = (usage["input_tokens"] * price["input"] + usage["output_tokens"] * price["output"]) / 1e6
    assert bucket["results"][0]["amount"]["value"] == expected


def test_a_document_goes_into_a_vector_store_is_found_and_taken_out(api: TestClient) -> None:
    stores = api.get("/openai/v1/vector_stores", headers=SERVICE).json()["data"]
    assert {store["id"] for store in stores} == set(vendors.VECTOR_STORES)
    uploaded = api.post(
        "/openai/v1/files",
        data={"purpose": "assistants"},
        files={"file": ("menu.md", b"Lampuki pie contains fish", "text/markdown")},
        headers=SERVICE,
    ).json()
    base = "/openai/v1/vector_stores/vs_menu"
    attached = api.post(
        f"{base}/files", json={"file_id": uploaded["id"], "attributes": {"sha256": "x"}}, headers=SERVICE
    ).json()
    assert attached["status"] == "completed"
    assert api.get(base, headers=SERVICE).json()["file_counts"]["completed"] == 1
    hits = api.post(f"{base}/search", json={"query": "lampuki"}, headers=SERVICE).json()["data"]
    assert hits[0]["attributes"] == {"sha256": "x"}
    api.delete(f"{base}/files/{uploaded['id']}", headers=SERVICE)
    assert api.get(f"{base}/files", headers=SERVICE).json()["data"] == []
    assert api.get(f"/openai/v1/files/{uploaded['id']}", headers=SERVICE).status_code == 200


def test_lists_come_in_pages(api: TestClient) -> None:
    for name in "abc":
        api.post("/openai/v1/vector_stores", json={"name": name}, headers=SERVICE)
    first = api.get("/openai/v1/vector_stores", params={"limit": 4}, headers=SERVICE).json()
    assert first["has_more"] is True
    rest = api.get(
        "/openai/v1/vector_stores", params={"limit": 4, "after": first["last_id"]}, headers=SERVICE
    ).json()
    assert rest["has_more"] is False
    ids = [store["id"] for store in first["data"] + rest["data"]]
    assert len(set(ids)) == len(ids) == 6


def test_a_voice_session_needs_a_known_model(api: TestClient) -> None:
    path = "/openai/v1/realtime/client_secrets"
    made = api.post(path, json={"session": {"type": "realtime", "model": "gpt-4.1"}}, headers=SERVICE)
    assert made.json()["value"].startswith("ek_")
    assert api.post(path, json={"session": {"model": "none"}}, headers=SERVICE).status_code == 400
