"""The client of Supabase's management API against the double."""

from __future__ import annotations

import httpx
import pytest
from fastapi.testclient import TestClient

from infra.supabase import Management, SupabaseError, digest
from infra.world import vendors

VALID = "sbp_first"
PROJECT = vendors.SUPABASE_PROJECT
WANTED = {"FEATURE_AGENT_CHAT": "false", "FEATURE_AGENT_VOICE": "true"}


def behind(api: TestClient, requests: list[httpx.Request], token: str) -> Management:
    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        headers = {name: request.headers[name] for name in ("authorization",)}
        passed = api.request(request.method, request.url.path, content=request.content, headers=headers)
        return httpx.Response(passed.status_code, content=passed.content)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    return Management("https://vendors.example/supabase/", token, client)


def test_secrets_are_set_and_read_back_by_their_digests(api: TestClient) -> None:
    requests: list[httpx.Request] = []
    management = behind(api, requests, VALID)
    assert management.ensure(PROJECT, WANTED) == list(WANTED)
    assert management.digests(PROJECT) == {name: digest(value) for name, value in WANTED.items()}


def test_what_is_right_is_not_written_again(api: TestClient) -> None:
    requests: list[httpx.Request] = []
    management = behind(api, requests, VALID)
    management.ensure(PROJECT, WANTED)
    requests.clear()
    assert management.ensure(PROJECT, WANTED) == []
    assert [request.method for request in requests] == ["GET"]
    assert management.ensure(PROJECT, {**WANTED, "FEATURE_AGENT_VOICE": "false"}) == ["FEATURE_AGENT_VOICE"]


def test_what_the_api_took_but_does_not_show_is_not_believed() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201) if request.method == "POST" else httpx.Response(200, json=[])

    management = Management("https://x", "t", httpx.Client(transport=httpx.MockTransport(handle)))
    with pytest.raises(SupabaseError, match="took FEATURE_AGENT_CHAT, FEATURE_AGENT_VOICE but does not"):
        management.ensure(PROJECT, WANTED)


def test_a_refusal_says_what_the_api_said_and_no_token(api: TestClient) -> None:
    with pytest.raises(SupabaseError) as caught:
        behind(api, [], "sbp_revoked").ensure(PROJECT, WANTED)
    assert str(caught.value) == f"{PROJECT}: the API answered 401 (Unauthorized)"
    with pytest.raises(SupabaseError, match="nowhere: the API answered 404"):
        behind(api, [], VALID).ensure("nowhere", WANTED)


@pytest.mark.parametrize("body", [b'{"unfinished": [1, 2,\x00', b"[1]", b'{"a": 1}'])
def test_nonsense_is_no_list_of_secrets(body: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    with pytest.raises(SupabaseError, match="no list of secrets"):
        Management("https://x", "t", httpx.Client(transport=transport)).digests(PROJECT)


def test_no_answer_is_said() -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("timed out")

    with pytest.raises(SupabaseError, match=r"no answer \(ConnectTimeout: timed out\)"):
        Management("https://x", "t", httpx.Client(transport=httpx.MockTransport(handle))).digests(PROJECT)
