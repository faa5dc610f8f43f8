"""Agent runs: routing, budgets, guardrails, tools, streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.unit.reference_service.conftest import Service, Start
from tests.unit.reference_service.fakes import FakeStore, Vendors, model_answer, model_stream

Model = Callable[[dict[str, Any]], httpx.Response]


def by_model(**answers: httpx.Response | Exception) -> Model:
    """Return a model API that answers by the model's name, with underscores only."""

    def answer(request: dict[str, Any]) -> httpx.Response:
        found = answers[request["model"].replace("-", "_").replace(".", "_")]
        if isinstance(found, Exception):
            raise found
        return found

    return answer


def events(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Parse server-sent events."""
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block]
    return [
        (event.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for event, data in blocks
    ]


async def test_a_turn_is_answered_and_paid_for(service: Service, vendors: Vendors, store: FakeStore) -> None:
    response = await service.say("What is good today?")
    assert response.status_code == 200
    document = response.json()
    assert document["text"] == "Isombe is good today."
    assert document["model"] == "gpt-4o"
    assert document["usage"] == {"input_tokens": 100, "output_tokens": 100, "cost_usd": 0.00125}
    assert [usage.usd for usage in store.usages] == [Decimal("0.00125")]
    assert service.metric("agents_tokens_total", model="gpt-4o", kind="input") == 100
    assert service.metric("agents_spend_usd_total", model="gpt-4o") == 0.00125
    assert service.metric("agents_turns_total", outcome="success", streaming="false") == 1
    request = json.loads(vendors.requests[-1].content)
    assert request["tools"][-1] == {
        "type": "file_search",
        "vector_store_ids": ["vs_menu", "vs_allergens", "vs_policies"],
    }


async def test_a_conversation_goes_on_where_it_stood(service: Service, vendors: Vendors) -> None:
    session = await service.session()
    await service.say("Hello", session)
    await service.say("And now?", session)
    first, second = (json.loads(r.content) for r in vendors.requests if r.url.path.endswith("/responses"))
    assert "previous_response_id" not in first
    assert second["previous_response_id"].startswith("resp_")


async def test_a_session_belongs_to_its_caller(service: Service) -> None:
    session = await service.session(sub="bob")
    response = await service.say("Hello", session)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "session_not_found")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_an_overloaded_model_is_followed_by_the_failover_model(
    service: Service, vendors: Vendors, status: int
) -> None:
    vendors.model = by_model(
        gpt_4o=httpx.Response(status), gpt_4_1=httpx.Response(200, json=model_answer("Yes."))
    )
    response = await service.say("Hello")
    assert response.json()["model"] == "gpt-4.1"
    assert service.metric("agents_model_requests_total", model="gpt-4o", outcome="error") == 1


async def test_a_model_that_times_out_is_followed_by_the_failover_model(
    service: Service, vendors: Vendors
) -> None:
    vendors.model = by_model(
        gpt_4o=httpx.ReadTimeout("slow"), gpt_4_1=httpx.Response(200, json=model_answer("Yes."))
    )
    assert (await service.say("Hello")).json()["model"] == "gpt-4.1"


async def test_when_no_model_answers_nothing_is_charged(
    service: Service, vendors: Vendors, store: FakeStore
) -> None:
    vendors.model = lambda _request: httpx.Response(503)
    response = await service.say("Hello")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "model_unavailable")
    assert response.headers["Retry-After"]
    assert store.reservations == {}


async def test_a_revoked_key_is_told_and_not_retried(service: Service, vendors: Vendors) -> None:
    vendors.model = lambda _request: httpx.Response(401)
    response = await service.say("Hello")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "model_credentials_rejected")
    assert vendors.models_asked() == ["gpt-4o"]


@pytest.mark.parametrize("document", [{}, {"output": "x", "usage": {}}, []])
async def test_an_answer_of_another_shape_is_an_error_of_the_vendor(
    service: Service, vendors: Vendors, document: object
) -> None:
    vendors.model = lambda _request: httpx.Response(200, json=document)
    response = await service.say("Hello")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "model_refused")


async def test_near_the_end_of_a_budget_the_cheaper_model_answers(
    service: Service, vendors: Vendors, store: FakeStore
) -> None:
    store.daily_elsewhere = Decimal(40)
    await service.say("Hello")
    assert vendors.models_asked() == ["gpt-4o-mini"]


async def test_a_used_up_daily_budget_refuses(service: Service, vendors: Vendors, store: FakeStore) -> None:
    store.daily_elsewhere = Decimal("49.9999")
    response = await service.say("Hello")
    assert (response.status_code, response.json()["error"]["code"]) == (429, "daily_budget_exceeded")
    assert vendors.models_asked() == []
    assert service.metric("agents_budget_rejections_total", scope="daily") == 1


async def test_a_used_up_session_budget_refuses(service: Service, vendors: Vendors) -> None:
    vendors.model = lambda _request: httpx.Response(200, json=model_answer("Long.", tokens=60_000))
    session = await service.session()
    assert (await service.say("Hello", session)).status_code == 200
    response = await service.say("Hello", session)
    assert (response.status_code, response.json()["error"]["code"]) == (402, "session_budget_exceeded")
    assert service.metric("agents_budget_rejections_total", scope="session") == 1
    assert (await service.say("Hello")).status_code == 200, "another session has a budget of its own"


async def test_the_responses_model_overrides_the_default(start: Start, vendors: Vendors) -> None:
    async with start(OPENAI_RESPONSES_MODEL="gpt-3.5-turbo") as service:
        await service.say("Hello")
    assert vendors.models_asked() == ["gpt-3.5-turbo"]


async def test_flags_choose_variant_and_backup_model_per_tenant_group(
    service: Service, vendors: Vendors
) -> None:
    vendors.flags = [
        {"key": "ai_waiter.v2.enabled", "tenant_group": "internal", "enabled": True},
        {"key": "ai_waiter.v2.enabled", "tenant_group": "full", "enabled": False},
        {"key": "ai_model.failover.enabled", "tenant_group": "full", "enabled": True},
    ]
    document = (await service.say("Hello")).json()
    assert (document["variant"], document["model"]) == ("v1", "gpt-4.1")
    internal = service.bearer(tenant_group="internal")
    session = (await service.client.post("/api/agents/sessions", headers=internal)).json()["id"]
    url = f"/api/agents/sessions/{session}/messages"
    document = (await service.client.post(url, json={"message": "Hello"}, headers=internal)).json()
    assert (document["variant"], document["model"]) == ("v2", "gpt-4o")


async def test_tools_are_called_and_their_results_sent_back(
    service: Service, vendors: Vendors, store: FakeStore
) -> None:
    call = {
        "call_id": "call_1",
        "name": "create_voucher",
        "arguments": json.dumps({"customer_msisdn": "+250788123456", "amount": 10000}),
    }
    answers = [model_answer("", calls=[call]), model_answer("Here is your voucher.")]
    vendors.model = lambda _request: httpx.Response(200, json=answers.pop(0))
    document = (await service.say("I want a voucher")).json()
    assert document["tools"] == ["create_voucher"]
    assert [voucher.amount for voucher in store.vouchers.values()] == [10000]
    result = json.loads(vendors.requests[-1].content)["input"][0]
    assert result["type"] == "function_call_output"
    assert json.loads(result["output"])["policy_number"].startswith("AI-")
    assert len(store.usages) == 2


@pytest.mark.parametrize(
    ("name", "arguments"), [("create_voucher", "{}"), ("create_voucher", "nonsense"), ("drop_tables", "{}")]
)
async def test_a_bad_tool_call_is_told_to_the_model(
    service: Service, vendors: Vendors, name: str, arguments: str
) -> None:
    answers = [
        model_answer("", calls=[{"call_id": "c", "name": name, "arguments": arguments}]),
        model_answer("Sorry."),
    ]
    vendors.model = lambda _request: httpx.Response(200, json=answers.pop(0))
    assert (await service.say("Hello")).json()["text"] == "Sorry."
    result = json.loads(vendors.requests[-1].content)["input"][0]["output"]
    assert json.loads(result)["error"]["code"] in {"invalid_arguments", "unknown_tool"}


async def test_a_model_that_only_calls_tools_is_stopped(service: Service, vendors: Vendors) -> None:
    call = {"call_id": "c", "name": "lookup_customer", "arguments": '{"msisdn": "+250788123456"}'}
    vendors.model = lambda _request: httpx.Response(200, json=model_answer("", calls=[call]))
    response = await service.say("Hello")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "too_many_tool_rounds")
    assert len(vendors.models_asked()) == 4


async def test_a_stream_comes_in_pieces(service: Service, vendors: Vendors) -> None:
    vendors.model = lambda _request: model_stream("Iso", "mbe is", " good.")
    response = await service.say("Hello", stream=True)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    got = events(response)
    assert "".join(data["text"] for event, data in got if event == "delta") == "Isombe is good."
    assert [event for event, _ in got][-1] == "completed"
    assert len(got) > 2
    assert got[-1][1]["usage"]["input_tokens"] == 100


async def test_a_refused_stream_has_a_proper_status(
    service: Service, vendors: Vendors, store: FakeStore
) -> None:
    store.daily_elsewhere = Decimal(50)
    assert (await service.say("Hello", stream=True)).status_code == 429
    vendors.model = lambda _request: httpx.Response(503)
    store.daily_elsewhere = Decimal(0)
    assert (await service.say("Hello", stream=True)).status_code == 503


async def test_a_stream_that_breaks_off_ends_with_an_error_and_stays_charged(
    service: Service, vendors: Vendors, store: FakeStore
) -> None:
    vendors.model = lambda _request: model_stream("Isombe is very", " good", end=False)
    got = events(await service.say("Hello", stream=True))
    assert got[0][0] == "delta"
    assert got[-1] == ("error", {"error": got[-1][1]["error"]})
    assert got[-1][1]["error"]["code"] == "model_refused"
    assert [usd > 0 for _, usd in store.reservations.values()] == [True]


async def test_a_stream_fails_over_before_its_first_piece(service: Service, vendors: Vendors) -> None:
    vendors.model = by_model(gpt_4o=model_stream(end=False), gpt_4_1=model_stream("Yes."))
    got = events(await service.say("Hello", stream=True))
    assert (got[-1][0], got[-1][1]["model"]) == ("completed", "gpt-4.1")


async def test_card_numbers_do_not_reach_the_model(
    service: Service, vendors: Vendors, store: FakeStore
) -> None:
    document = (await service.say("Charge 4111 1111 1111 1111 please")).json()
    assert b"4111" not in vendors.requests[-1].content
    assert document["guardrails"] == ["input.card_number"]
    assert [(event.kind, event.details["rule"]) for event in store.events] == [
        ("guardrail", "input.card_number")
    ]
    assert service.metric("agents_guardrail_breaches_total", rule="input.card_number", kind="policy") == 1


async def test_card_numbers_and_keys_do_not_leave_in_a_stream(service: Service, vendors: Vendors) -> None:
    vendors.model = lambda _request: model_stream(
        "Card 41", "11 1111", " 1111 11", "11 and s", "k-abcdef", "ghijkl stay here. Bye."
    )
    response = await service.say("Hello", stream=True)
    text = "".join(data["text"] for event, data in events(response) if event == "delta")
    assert text == "Card [redacted] and [redacted] stay here. Bye."
    assert events(response)[-1][1]["guardrails"] == ["output.card_number", "output.credential"]


async def test_an_allergen_promise_counts_as_hallucination(service: Service, vendors: Vendors) -> None:
    vendors.model = lambda _request: httpx.Response(200, json=model_answer("It is guaranteed peanut-free!"))
    assert (await service.say("Peanuts?")).json()["guardrails"] == ["output.allergen_promise"]
    name = "agents_guardrail_breaches_total"
    assert service.metric(name, rule="output.allergen_promise", kind="hallucination") == 1


async def test_the_correlation_id_goes_along_to_vendors(service: Service, vendors: Vendors) -> None:
    session = await service.session()
    response = await service.client.post(
        f"/api/agents/sessions/{session}/messages",
        json={"message": "Hello"},
        headers={**service.bearer(), "X-Correlation-ID": "order-42"},
    )
    assert response.headers["X-Correlation-ID"] == "order-42"
    last_two = vendors.requests[-2:]
    assert {request.headers["X-Correlation-ID"] for request in last_two} == {"order-42"}
    assert vendors.requests[-1].headers["X-Client-Request-Id"] == "order-42"


async def test_voice_sessions_are_created_and_counted(service: Service) -> None:
    response = await service.client.post("/api/realtime/sessions", headers=service.bearer())
    assert response.status_code == 201
    assert response.json()["client_secret"]["value"] == "ek_1"
    assert service.metric("agents_realtime_sessions_total", outcome="success") == 1


@pytest.mark.parametrize(
    "body", [{}, {"message": ""}, {"message": "x" * 8001}, {"message": "x", "other": 1}, [], "x"]
)
async def test_a_bad_body_is_refused_without_being_repeated(service: Service, body: object) -> None:
    session = await service.session()
    response = await service.client.post(
        f"/api/agents/sessions/{session}/messages", json=body, headers=service.bearer()
    )
    assert (response.status_code, response.json()["error"]["code"]) == (422, "request_invalid")
    assert "xxx" not in response.text
