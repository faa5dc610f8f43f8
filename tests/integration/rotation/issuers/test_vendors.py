"""Keys that vendors make: created, found again, revoked, and never shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.rotation.issuers import (
    Issuer,
    IssuerError,
    IssuerGarbageError,
    IssuerRefusedError,
    IssuerUnavailableError,
    NoIssuerError,
    checker,
    http,
    issuer,
    openai,
)
from reference.vendors.faults import Fault
from tests.integration.rotation.issuers.conftest import CANARY, IN_USE, Secrets, World, outputs_of, said_by

LABEL = "icupa-local-rotate-0123456789ab"
OTHER_LABEL = "icupa-local-rotate-ba9876543210"
NAMES = ("openai-api-key", "openai-admin-key", "supabase-service-role-key", "vercel-token")
VENDORS = dict(zip(NAMES, ("openai", "openai", "supabase", "vercel"), strict=True))
ASKED_WITH = {
    "openai-api-key": "openai-admin-key",
    "openai-admin-key": "openai-admin-key",
    "supabase-service-role-key": "supabase-management-token",
    "vercel-token": "vercel-token",
}
every = pytest.mark.parametrize("name", NAMES)


def calls(driver: Issuer, value: str, known: str) -> dict[str, Callable[[], Any]]:
    """Every method of a driver."""
    return {
        "create": lambda: driver.create(LABEL),
        "labelled": lambda: driver.labelled(LABEL),
        "current": lambda: driver.current(value),
        "accepts": lambda: driver.accepts(value),
        "revoke": lambda: driver.revoke(known),
    }


@every
def test_both_are_valid_until_the_old_one_is_revoked(world: World, name: str) -> None:
    driver, old = world.issuer(name), IN_USE[name]
    made = driver.create(LABEL)
    assert made.value != old
    assert driver.accepts(old)
    assert driver.accepts(made.value)
    assert driver.current(made.value) == made.id
    known = driver.current(old)
    assert known
    assert known != made.id
    world.secrets.values[name] = made.value
    driver.revoke(known)
    assert not driver.accepts(old)
    assert driver.accepts(made.value)
    assert driver.current(old) is None
    driver.revoke(known)
    assert driver.labelled(LABEL) == [made.id]


@every
def test_the_new_one_is_taken_back_with_the_old_one_in_use(world: World, name: str) -> None:
    driver = world.issuer(name)
    made = driver.create(LABEL)
    driver.revoke(made.id)
    assert not driver.accepts(made.value)
    assert driver.accepts(IN_USE[name])
    assert driver.labelled(LABEL) == []


@every
def test_ten_in_a_row_leave_one(world: World, name: str) -> None:
    driver = world.issuer(name)
    values = [IN_USE[name]]
    for number in range(10):
        made = driver.create(f"{LABEL}{number}")
        known = driver.current(values[-1])
        assert known
        world.secrets.values[name] = made.value
        driver.revoke(known)
        values.append(made.value)
    assert [driver.accepts(value) for value in values] == [False] * 10 + [True]


@every
def test_a_lost_answer_leaves_an_orphan_that_its_label_finds(world: World, name: str) -> None:
    driver = world.issuer(name)
    driver.create(OTHER_LABEL)
    world.wire.lose = "POST"
    with pytest.raises(IssuerUnavailableError, match="did not answer POST"):
        driver.create(LABEL)
    world.wire.lose = ""
    assert sum(asked.startswith("POST") for asked in world.wire.asked) == 2, "it was asked again"
    orphans = driver.labelled(LABEL)
    assert len(orphans) == 1
    for orphan in orphans:
        driver.revoke(orphan)
    made = driver.create(LABEL)
    assert driver.labelled(LABEL) == [made.id]
    assert len(driver.labelled(OTHER_LABEL)) == 1


@every
def test_a_lost_answer_to_a_revoke_is_asked_again(world: World, name: str) -> None:
    driver = world.issuer(name)
    made = driver.create(LABEL)
    world.wire.lose = "DELETE"
    with pytest.raises(IssuerUnavailableError):
        driver.revoke(made.id)
    world.wire.lose = ""
    driver.revoke(made.id)
    assert not driver.accepts(made.value)


FAULTS = {
    "down": (Fault(mode="down"), IssuerUnavailableError),
    "failing": (Fault(error_rate=1, error_status=500), IssuerUnavailableError),
    "too many": (Fault(error_rate=1, error_status=429), IssuerUnavailableError),
    "garbage": (Fault(mode="garbage"), IssuerGarbageError),
    "no such thing": (Fault(error_rate=1, error_status=418), IssuerRefusedError),
}


@every
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_said_and_the_old_one_stays_valid(
    world: World, name: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    driver = world.issuer(name)
    known = driver.current(IN_USE[name])
    assert known
    setting, kind = FAULTS[fault]
    world.faults.by_vendor[VENDORS[name]] = setting
    for what, call in calls(driver, IN_USE[name], known).items():
        error, shown = said_by(call)
        assert type(error) is kind, what
        assert CANARY not in shown + caplog.text, what
    world.faults.by_vendor.clear()
    assert driver.accepts(IN_USE[name])
    assert driver.labelled(LABEL) == []


@every
def test_who_does_not_answer_in_time_is_not_waited_for(
    own_world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT", httpx.Timeout(0.2))
    own_world.faults.by_vendor[VENDORS[name]] = Fault(latency_ms=700)
    error, shown = said_by(lambda: own_world.issuer(name).create(LABEL))
    assert isinstance(error, IssuerUnavailableError)
    assert "ReadTimeout" in shown
    assert CANARY not in shown


@every
def test_a_credential_that_is_not_valid_is_said_without_it(world: World, name: str) -> None:
    driver = world.issuer(name)
    known = driver.current(IN_USE[name])
    assert known
    world.secrets.values[ASKED_WITH[name]] = f"sk-proj-{CANARY}-wrong"
    assert driver.accepts(IN_USE[name]), "a value is tried with itself"
    tried_itself = {"accepts"} | ({"current"} if name == "vercel-token" else set())
    for what, call in calls(driver, IN_USE[name], known).items():
        if what in tried_itself:
            continue
        error, shown = said_by(call)
        assert isinstance(error, IssuerRefusedError), what
        assert CANARY not in shown
        assert " 401" in shown or " 403" in shown


@every
def test_nobody_there_is_said(world: World, name: str) -> None:
    world.wire.ports.clear()
    error, shown = said_by(lambda: world.issuer(name).create(LABEL))
    assert isinstance(error, IssuerUnavailableError)
    assert "ConnectError" in shown


@every
def test_an_id_of_another_form_is_refused_before_anything_is_asked(world: World, name: str) -> None:
    driver = world.issuer(name)
    with pytest.raises(IssuerError, match="such an id"):
        driver.revoke("../../secrets")
    assert world.wire.asked == []


@every
def test_a_value_that_the_issuer_does_not_know_has_no_id(world: World, name: str) -> None:
    assert world.issuer(name).current(f"{IN_USE[name][:9]}-somebody-elses") is None


def test_a_long_list_is_read_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "_PAGE", 2)
    for name in ("openai-api-key", "openai-admin-key"):
        driver = world.issuer(name)
        made = [driver.create(f"{LABEL}-{number}") for number in range(5)]
        assert driver.labelled(f"{LABEL}-4") == [made[4].id]
        assert driver.current(made[3].value) == made[3].id


def test_a_key_of_supabase_can_not_have_every_label(world: World) -> None:
    driver = world.issuer("supabase-service-role-key")
    with pytest.raises(IssuerError, match="4 to 64 of a-z"):
        driver.create("icupa " * 20)
    assert world.wire.asked == []


def test_a_key_is_made_for_the_project_that_hosts_use() -> None:
    name, secrets = "supabase-service-role-key", Secrets()
    assert issuer(name, outputs_of("staging", SUPABASE_URL="https://icupa-staging-fra.supabase.co"), secrets)
    with pytest.raises(NoIssuerError, match="is none of the projects icupa-staging-ams, icupa-staging-fra"):
        issuer(name, outputs_of("staging", SUPABASE_URL="https://elsewhere.supabase.co"), secrets)


def test_a_key_can_not_be_of_two_projects() -> None:
    with pytest.raises(NoIssuerError, match=r"use 2 projects.*a key is one project's"):
        issuer("supabase-service-role-key", outputs_of("production"), Secrets())


def test_the_management_token_is_tried_but_made_by_hand(world: World) -> None:
    name = "supabase-management-token"
    tried = checker(name, world.outputs, world.secrets, web=world.wire)
    assert tried.accepts(IN_USE[name])
    assert not tried.accepts("sbp_other")
    with pytest.raises(NoIssuerError, match="make one in the account's access tokens"):
        world.issuer(name)


def test_a_project_is_found_by_the_key_in_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = world.issuer("openai-api-key")
    monkeypatch.setattr(driver, "_projects", lambda: ["projects/proj_icupa_agents"] * 2)
    assert driver.create(LABEL).id.startswith("projects/proj_icupa_agents/service_accounts/")
    world.secrets.values["openai-api-key"] = f"sk-proj-{CANARY}-unknown"
    _, shown = said_by(lambda: driver.create(LABEL))
    assert "none of 2 projects has the openai-api-key in use" in shown
    assert CANARY not in shown


@pytest.mark.parametrize(
    ("redacted", "value", "shown"),
    [
        ("sk-proj-************word", "sk-proj-pass-word", True),
        ("sk-abc...word", "sk-abc-pass-word", True),
        ("sk-abc...word", "sk-abd-pass-word", False),
        ("sk-abc...word", "sk-abc-pass-work", False),
        ("sk-abc...rd", "sk-abc-pass-word", False),
        ("sk-abc-pass-word", "sk-abc-pass-word", False),
        ("sk-abcd...cdef", "sk-abcdef", False),
    ],
)
def test_a_key_is_known_by_what_is_shown_of_it(redacted: str, value: str, shown: bool) -> None:
    assert openai._shows(redacted, value) is shown
