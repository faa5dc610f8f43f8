from __future__ import annotations

import hashlib
from typing import Any

from fastapi.testclient import TestClient

from infra.world import vendors

TABLE = "/supabase/rest/v1/agent_runtime_configs"
PROJECT = f"/supabase/v1/projects/{vendors.SUPABASE_PROJECT}"
MANAGER = {"Authorization": "Bearer sbp_first"}


def role(key: str = "sb_secret_first") -> dict[str, str]:
    return {"apikey": key, "Authorization": f"Bearer {key}"}


def put(api: TestClient, *rows: dict[str, Any], prefer: str = "resolution=merge-duplicates") -> Any:
    return api.post(
        TABLE,
        params={"on_conflict": "key,tenant_group"},
        json=list(rows),
        headers={**role(), "Prefer": prefer},
    )


def flag(key: str, group: str, enabled: bool) -> dict[str, Any]:
    return {"key": key, "tenant_group": group, "enabled": enabled}


def test_flags_are_upserted_filtered_and_ordered(api: TestClient) -> None:
    assert (
        put(api, flag("a", "pilot", False), flag("a", "internal", True), flag("b", "full", True)).status_code
        == 201
    )
    assert put(api, flag("a", "pilot", True)).status_code == 201
    rows = api.get(
        TABLE,
        params={"select": "tenant_group,enabled", "key": "eq.a", "order": "tenant_group.desc"},
        headers=role(),
    ).json()
    assert rows == [{"tenant_group": "pilot", "enabled": True}, {"tenant_group": "internal", "enabled": True}]
    some = api.get(TABLE, params={"tenant_group": "in.(full,internal)", "enabled": "is.true"}, headers=role())
    assert {row["tenant_group"] for row in some.json()} == {"full", "internal"}


def test_a_duplicate_without_merge_is_a_conflict_and_changes_nothing(api: TestClient) -> None:
    put(api, flag("a", "pilot", True))
    refused = put(api, flag("new", "pilot", True), flag("a", "pilot", False), prefer="return=minimal")
    assert (refused.status_code, refused.json()["code"]) == (409, "23505")
    assert [row["key"] for row in api.get(TABLE, headers=role()).json()] == ["a"]
    assert api.get(TABLE, headers=role()).json()[0]["enabled"] is True


def test_update_and_delete_touch_only_what_matches(api: TestClient) -> None:
    put(api, flag("a", "pilot", True), flag("b", "pilot", True))
    changed = api.patch(
        TABLE,
        params={"key": "eq.a"},
        json={"enabled": False},
        headers={**role(), "Prefer": "return=representation"},
    ).json()
    assert [(row["key"], row["enabled"]) for row in changed] == [("a", False)]
    assert api.delete(TABLE, params={"key": "eq.a"}, headers=role()).status_code == 204
    assert [row["key"] for row in api.get(TABLE, headers=role()).json()] == ["b"]


def test_unknown_tables_and_columns_are_refused_as_postgrest_does(api: TestClient) -> None:
    unknown = api.get("/supabase/rest/v1/nothing", headers=role())
    assert (unknown.status_code, unknown.json()["code"]) == (404, "PGRST205")
    assert put(api, {**flag("a", "pilot", True), "colour": "red"}).json()["code"] == "PGRST204"
    assert api.get(TABLE, params={"colour": "eq.red"}, headers=role()).status_code == 400


def test_both_headers_are_needed(api: TestClient) -> None:
    assert api.get(TABLE).status_code == 401
    assert api.get(TABLE, headers={"apikey": "sb_secret_first"}).status_code == 401
    assert api.get(TABLE, headers=role("sb_secret_wrong")).status_code == 401


def test_a_deleted_key_stops_working_at_once(api: TestClient) -> None:
    made = api.post(
        f"{PROJECT}/api-keys?reveal=true", json={"type": "secret", "name": "agents_2"}, headers=MANAGER
    ).json()
    assert api.get(TABLE, headers=role(made["api_key"])).status_code == 200
    old = next(
        key for key in api.get(f"{PROJECT}/api-keys", headers=MANAGER).json() if key["id"] != made["id"]
    )
    assert "sb_secret_first" not in str(old["api_key"])
    api.delete(f"{PROJECT}/api-keys/{old['id']}", headers=MANAGER)
    assert api.get(TABLE, headers=role()).status_code == 401
    assert api.get(TABLE, headers=role(made["api_key"])).status_code == 200


def test_a_new_key_is_masked_unless_it_is_to_be_revealed(api: TestClient) -> None:
    made = api.post(f"{PROJECT}/api-keys", json={"type": "secret", "name": "agents_2"}, headers=MANAGER)
    assert made.status_code == 201
    assert made.json()["api_key"].endswith("·")


def test_a_publishable_key_cant_read_the_flags(api: TestClient) -> None:
    made = api.post(
        f"{PROJECT}/api-keys?reveal=true", json={"type": "publishable", "name": "browser"}, headers=MANAGER
    ).json()
    assert api.get(TABLE, headers=role(made["api_key"])).status_code == 403


def test_secrets_are_shown_as_hashes_only(api: TestClient) -> None:
    assert (
        api.post(
            f"{PROJECT}/secrets", json=[{"name": "OPENAI_API_KEY", "value": "v"}], headers=MANAGER
        ).status_code
        == 201
    )
    (secret,) = api.get(f"{PROJECT}/secrets", headers=MANAGER).json()
    assert secret["value"] == hashlib.sha256(b"v").hexdigest()
    api.request("DELETE", f"{PROJECT}/secrets", json=["OPENAI_API_KEY"], headers=MANAGER)
    assert api.get(f"{PROJECT}/secrets", headers=MANAGER).json() == []


def test_functions_are_deployed_in_versions(api: TestClient) -> None:
    def deploy() -> Any:
        return api.post(
            f"{PROJECT}/functions/deploy",
            params={"slug": "ai-lookup-customer"},
            files=[("file", ("index.ts", b"export {}", "application/typescript"))],
            headers=MANAGER,
        ).json()

    assert deploy()["version"] == 1
    assert deploy()["version"] == 2
    (function,) = api.get(f"{PROJECT}/functions", headers=MANAGER).json()
    assert (function["slug"], function["status"]) == ("ai-lookup-customer", "ACTIVE")


def test_management_needs_its_own_token_and_the_right_project(api: TestClient) -> None:
    assert (
        api.get(f"{PROJECT}/secrets", headers={"Authorization": "Bearer sb_secret_first"}).status_code == 401
    )
    assert api.get("/supabase/v1/projects/other/secrets", headers=MANAGER).status_code == 404
