"""What is rotated, who takes it how, and what is said at the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.record import Result, Rotation, RotationPhase
from infra.rotation import plan
from infra.rotation.plan import How, RotationError
from infra.secrets.catalogue import CATALOGUE
from infra.secretstore import Entry

SET = datetime(2026, 1, 1, tzinfo=UTC)
KEY, COOKIE, TOKEN = "openai-api-key", "oauth2-proxy-cookie-secret", "otlp-token"
ENTRIES = {name: Entry(name, SET, "ada") for name in (KEY, COOKIE, TOKEN, "oauth-client-secret")}


def asked(text: str, days: int = 0) -> plan.Asked:
    return plan.asked(text, ENTRIES, SET + timedelta(days=days))


def test_names_are_taken_one_by_one_each_once() -> None:
    assert asked(KEY) == plan.Asked((KEY,), named=True)
    assert asked(f" {COOKIE}, {KEY},{COOKIE}") == plan.Asked((COOKIE, KEY), named=True)


def test_due_is_what_should_have_been_replaced() -> None:
    assert asked("due").names == ()
    assert set(asked("due", 92).names) == {KEY, COOKIE}
    assert set(asked("due", 366).names) == {KEY, COOKIE, "oauth-client-secret"}


def test_all_is_what_age_is_a_reason_to_replace() -> None:
    assert set(asked("all").names) == {KEY, COOKIE, "oauth-client-secret"}
    assert not asked("all").named


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(RotationError) as caught:
        asked(f"openai-api-kye,{KEY},slack-token,cokie")
    said = str(caught.value)
    assert "did you mean openai-api-key" in said
    assert "slack-token has no value yet" in said
    assert "'cokie'" in said
    with pytest.raises(RotationError, match="names none"):
        asked(" , ")


def rotation(phase: RotationPhase, operation: str = "rotate-1") -> Rotation:
    return Rotation(operation=operation, phase=phase, label="icupa-x-rotate-1-7", started_at=SET)


def test_a_command_ends_what_it_left_and_nothing_else() -> None:
    left = {KEY: rotation(RotationPhase.OFFERED)}
    assert plan.unfinished(left, [KEY], "rotate-2") == (KEY,)
    assert plan.unfinished(left, [], "rotate-1") == (KEY,), "`due`: what it has promoted is not due any more"
    with pytest.raises(RotationError, match=r"openai-api-key \(offered\) .* -e secret=openai-api-key"):
        plan.unfinished(left, [COOKIE], "rotate-2")
    both = {**left, COOKIE: rotation(RotationPhase.OFFERED)}
    with pytest.raises(RotationError, match="-e secret=openai-api-key,oauth2-proxy-cookie-secret"):
        plan.unfinished(both, [KEY], "rotate-2")


def test_services_take_it_as_they_can() -> None:
    found = plan.delivery("metrics-token", ("agents-blue", "agents-green", "prometheus"))
    assert found.services == {How.SLOT: ("agents-blue", "agents-green"), How.ANEW: ("prometheus",)}
    assert plan.delivery(COOKIE, ("oauth2-proxy",)).services == {How.BESIDE: ("oauth2-proxy",)}
    owner = plan.delivery("postgres-owner-password", ("migrate-blue", "migrate-green"))
    assert owner.in_slots, "a slot migrates before it starts"
    joined = plan.together([found, plan.delivery(COOKIE, ("oauth2-proxy",)), found])
    assert joined.services == {**found.services, How.BESIDE: ("oauth2-proxy",)}


@pytest.mark.parametrize("service", ["traefik", "postgres", "redis"])
def test_what_can_not_take_it_while_it_serves_is_refused(service: str) -> None:
    with pytest.raises(RotationError, match=f"{service} reads it"):
        plan.delivery(KEY, ("agents-blue", service))


def test_readers_that_no_program_reaches_are_named() -> None:
    assert plan.by_hand(KEY) == "", "the functions are set by the procedure, the controller reads the store"
    assert "Meta, webhook settings must be given it by hand" in plan.by_hand("whatsapp-verify-token")
    assert "docker must be given it by hand" in plan.by_hand("registry-password")


def test_functions_secrets_are_those_of_secrets_that_functions_read() -> None:
    for name in plan.FUNCTION_SECRETS:
        assert "Supabase functions" in CATALOGUE[name].consumers


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({"agents-green": [f"{KEY} wanted"], "redis": []}, []),
        ({"agents-green": []}, [f"agents-green does not have the value of {KEY} that it must have"]),
        (
            {"agents-green": [f"{KEY} wanted"], "agents-blue": [f"{KEY} unwanted"]},
            [
                f"agents-blue does not have the value of {KEY} that it must have",
                f"agents-blue has the other value of {KEY}",
            ],
        ),
        (
            {"agents-green": [f"{KEY} wanted"], "stray": [f"{KEY} unwanted"]},
            [f"stray has the other value of {KEY}"],
        ),
    ],
)
def test_containers_with_other_values_are_found(found: dict[str, list[str]], wrong: list[str]) -> None:
    assert plan.misplaced(found, {KEY: ("agents-blue", "agents-green")}) == wrong


OFFERED, UNDOING, PROMOTED = RotationPhase.OFFERED, RotationPhase.UNDOING, RotationPhase.PROMOTED


@pytest.mark.parametrize(
    ("given", "result", "said"),
    [
        ({"rotated": [KEY]}, Result.OK, "rotated: openai-api-key"),
        ({"rotated": []}, Result.OK, "nothing to rotate"),
        (
            {"rotated": [KEY], "hands": {TOKEN: "otlp-token: ask them"}},
            Result.OK,
            "by hand: otlp-token: ask them",
        ),
        ({"failure": "create: 403"}, Result.FAILED, "the old values are in use, no new one is left"),
        ({"failure": "smoke", "delivered": True}, Result.ROLLED_BACK, "no new one is left"),
        ({"failure": "revoke: down", "left": PROMOTED}, Result.FAILED, "the old one may still be valid"),
        ({"failure": "create: down", "left": UNDOING}, Result.FAILED, "(called icupa-x-rotate-1-7)"),
        (
            {"failure": "smoke", "left": UNDOING, "not_undone": {"primary": "stuck"}},
            Result.ROLLBACK_FAILED,
            "not undone: primary: stuck",
        ),
        (
            {"failure": "smoke", "left": UNDOING, "not_undone": {"primary": "no"}, "lost": ["primary"]},
            Result.UNCERTAIN,
            "lost primary",
        ),
    ],
)
def test_the_verdict_says_which_value_is_in_use(given: dict[str, Any], result: Result, said: str) -> None:
    phase = given.get("left")
    found = plan.verdict(
        given.get("rotated", []),
        {KEY: rotation(phase)} if phase else {},
        given.get("failure", ""),
        delivered=given.get("delivered", False),
        not_undone=given.get("not_undone", {}),
        lost=given.get("lost", ()),
        hands=given.get("hands"),
    )
    assert found.result is result
    assert said in found.message
    assert given.get("failure", "") in found.message
