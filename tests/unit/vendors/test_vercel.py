from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

TOKEN = {"Authorization": "Bearer vercel-first"}
URL = {
    "key": "NEXT_PUBLIC_AGENTS_URL",
    "value": "https://agents.icupa.dev",
    "type": "encrypted",
    "target": ["production"],
}


def env(api: TestClient, version: str = "v9", **query: Any) -> list[dict[str, Any]]:
    answer = api.get(f"/vercel/{version}/projects/icupa-web/env", params=query, headers=TOKEN)
    found: list[dict[str, Any]] = answer.json()["envs"]
    return found


@pytest.mark.parametrize("version", ["v9", "v10"])
def test_a_variable_is_made_changed_and_deleted(api: TestClient, version: str) -> None:
    base = f"/vercel/{version}/projects/prj_icupa_web/env"
    made = api.post(base, json=URL, headers=TOKEN)
    assert made.status_code == 201
    variable = made.json()["created"]
    assert variable["value"] == ""
    assert env(api, version, decrypt="true")[0]["value"] == URL["value"]
    api.patch(f"{base}/{variable['id']}", json={"value": "https://other.example"}, headers=TOKEN)
    assert env(api, version, decrypt="true")[0]["value"] == "https://other.example"
    api.delete(f"{base}/{variable['id']}", headers=TOKEN)
    assert env(api) == []


def test_a_second_variable_for_a_target_needs_upsert(api: TestClient) -> None:
    base = "/vercel/v10/projects/icupa-web/env"
    assert api.post(base, json=URL, headers=TOKEN).status_code == 201
    clash = api.post(base, json={**URL, "value": "x"}, headers=TOKEN)
    assert (clash.status_code, clash.json()["error"]["code"]) == (400, "ENV_CONFLICT")
    assert api.post(base, json={**URL, "target": ["preview"]}, headers=TOKEN).status_code == 201
    assert (
        api.post(base, params={"upsert": "true"}, json={**URL, "value": "x"}, headers=TOKEN).status_code
        == 201
    )
    assert sorted(item["value"] for item in env(api, decrypt="true")) == ["https://agents.icupa.dev", "x"]


def test_bad_tokens_projects_and_values_are_refused(api: TestClient) -> None:
    path = "/vercel/v9/projects/icupa-web/env"
    assert api.get(path, headers={"Authorization": "Bearer revoked"}).status_code == 403
    assert api.get("/vercel/v9/projects/nobody/env", headers=TOKEN).status_code == 404
    assert api.post(path, json={**URL, "target": ["moon"]}, headers=TOKEN).status_code == 400
