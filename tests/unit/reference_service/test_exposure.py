"""What a rollout is judged by: turns, latency and guardrails of those for whom a flag is on (DEP-3)."""

from __future__ import annotations

import time

import httpx
import pytest

from reference.agents_service.auth import TENANT_GROUPS
from reference.agents_service.flags import BACKUP_MODEL, FLAGS, OUTCOMES, WAITER_V2, Exposure
from reference.agents_service.guardrails import KINDS
from reference.agents_service.metrics import Metrics
from tests.unit.reference_service.conftest import Service, Start
from tests.unit.reference_service.fakes import Vendors, model_answer

PILOT = [{"key": WAITER_V2, "tenant_group": "pilot", "enabled": True}]


async def say(service: Service, group: str, message: str = "Hello", **body: object) -> httpx.Response:
    headers = service.bearer(tenant_group=group)
    session = (await service.client.post("/api/agents/sessions", headers=headers)).json()["id"]
    return await service.client.post(
        f"/api/agents/sessions/{session}/messages", json={"message": message, **body}, headers=headers
    )


def turns(service: Service, group: str, flag: str = WAITER_V2) -> dict[str, float | None]:
    return {
        outcome: service.metric("agents_flag_turns_total", flag=flag, tenant_group=group, outcome=outcome)
        for outcome in OUTCOMES
    }


def answers(service: Service, group: str, flag: str = WAITER_V2) -> float | None:
    return service.metric("agents_flag_answer_seconds_count", flag=flag, tenant_group=group)


def breaches(service: Service, group: str, kind: str) -> float | None:
    return service.metric(
        "agents_flag_guardrail_breaches_total", flag=WAITER_V2, tenant_group=group, kind=kind
    )


def none(outcome: str = "", count: int = 0) -> dict[str, float]:
    return {name: float(count if name == outcome else 0) for name in OUTCOMES}


@pytest.mark.parametrize("stream", [False, True])
async def test_only_turns_of_those_who_have_the_flag_are_counted(
    service: Service, vendors: Vendors, stream: bool
) -> None:
    vendors.flags = PILOT
    for group in ("pilot", "internal", "pilot", "full"):
        assert (await say(service, group, stream=stream)).status_code == 200
    assert turns(service, "pilot") == none("success", 2)
    assert answers(service, "pilot") == 2
    assert turns(service, "internal") == turns(service, "full") == none()
    assert answers(service, "full") == 0
    assert turns(service, "pilot", BACKUP_MODEL) == none()


async def test_the_services_failures_are_errors_and_the_callers_are_refusals(
    service: Service, vendors: Vendors
) -> None:
    vendors.flags = PILOT
    vendors.model = lambda _request: httpx.Response(400)
    assert (await say(service, "pilot")).status_code == 502
    assert turns(service, "pilot") == none("error", 1)
    assert answers(service, "pilot") == 1, "an error takes its time, too"


async def test_a_budget_that_is_used_up_is_no_error(start: Start, vendors: Vendors) -> None:
    vendors.flags = PILOT
    async with start(AGENT_SESSION_BUDGET_USD="0.000001") as service:
        assert (await say(service, "pilot")).status_code == 402
        assert turns(service, "pilot") == none("refused", 1)
        assert answers(service, "pilot") == 0


async def test_a_failure_that_nobody_expected_is_an_error(service: Service, vendors: Vendors) -> None:
    vendors.flags = PILOT

    def broken(_request: object) -> httpx.Response:
        raise RuntimeError("unexpected")

    vendors.model = broken
    assert (await say(service, "pilot")).status_code == 500
    assert turns(service, "pilot") == none("error", 1)


async def test_guardrails_count_what_the_answer_broke_not_the_question(
    service: Service, vendors: Vendors
) -> None:
    vendors.flags = PILOT
    vendors.model = lambda _request: httpx.Response(200, json=model_answer("It is guaranteed peanut-free!"))
    await say(service, "pilot", "my card is 4111 1111 1111 1111")
    await say(service, "full")
    assert breaches(service, "pilot", "hallucination") == 1
    assert breaches(service, "pilot", "policy") == 0
    assert breaches(service, "full", "hallucination") == 0


async def test_a_session_that_is_not_the_callers_says_nothing_of_the_flag(
    service: Service, vendors: Vendors
) -> None:
    vendors.flags = PILOT
    session = await service.session(sub="bob", tenant_group="pilot")
    response = await service.client.post(
        f"/api/agents/sessions/{session}/messages",
        json={"message": "Hello"},
        headers=service.bearer(tenant_group="pilot"),
    )
    assert response.status_code == 404
    assert turns(service, "pilot") == none()


def test_the_time_is_that_to_the_first_piece() -> None:
    metrics = Metrics()
    exposure = Exposure(metrics, "pilot")
    exposure.flags = frozenset({WAITER_V2})
    exposure.answered()
    time.sleep(0.05)
    exposure.answered()
    exposure.ended("success")
    labels = {"flag": WAITER_V2, "tenant_group": "pilot"}
    assert metrics.registry.get_sample_value("agents_flag_answer_seconds_count", labels) == 1
    spent = metrics.registry.get_sample_value("agents_flag_answer_seconds_sum", labels)
    assert spent is not None
    assert spent < 0.05


async def test_every_series_exists_before_the_first_turn_and_no_other_afterwards(
    service: Service, vendors: Vendors
) -> None:
    def series() -> set[tuple[str, ...]]:
        return {
            (sample.name, *sorted(sample.labels.values()))
            for metric in service.parts.metrics.registry.collect()
            if metric.name.startswith("agents_flag_") and not metric.name.startswith("agents_flag_reads")
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }

    before = series()
    expected = len(FLAGS) * len(TENANT_GROUPS)
    counted = [name for name, *_ in before]
    assert counted.count("agents_flag_turns_total") == expected * len(OUTCOMES)
    assert counted.count("agents_flag_guardrail_breaches_total") == expected * len(KINDS)
    vendors.flags = [*PILOT, {"key": "somebody.else.s.flag", "tenant_group": "pilot", "enabled": True}]
    await say(service, "pilot", "my card is 4111 1111 1111 1111")
    assert series() == before
