"""Secrets replaced on the running stack: no request lost, one value valid, nothing left to change."""

from __future__ import annotations

import base64
from http import HTTPStatus

import pytest

from infra import local
from infra.outputs.read import read_outputs
from infra.procedures.verdict import ExitCode
from infra.record import Record, open_record
from infra.secretstore import SopsStore, open_store
from infra.supabase import digest
from infra.world import vendors
from tests.kills import Moment, killed_at
from tests.load.plan import Plan
from tests.load.process import Load
from tests.load.report import Report
from tests.load.stack import loading
from tests.load.writes import written
from tests.running import PULUMI_UP, STACK, command, machine, play, serves, succeeds
from tests.vendors import client, fault, function_secrets

pytestmark = pytest.mark.system

KEY = "openai-api-key"
NO_OVERLAP = ("oauth2-proxy-cookie-secret", "metrics-token")
DATABASES = ("postgres-app-password", "postgres-owner-password", "redis-password")
MOMENTS = (
    Moment("the first host is being switched", r"^TASK \[edge : Point the proxy at the slot"),
    Moment("the old one is being revoked", r"^TASK \[Revoke them"),
)


def record() -> Record:
    """The stack's record."""
    return open_record(read_outputs(STACK).record)


def store() -> SopsStore:
    """The stack's secrets, opened anew."""
    return open_store({}, STACK)


def rotate(secret: str, *options: str) -> list[str]:
    """Command of the procedure."""
    given = ["-e", f"stack={STACK}", "-e", f"secret={secret}", *options]
    return ["ansible-playbook", "ansible/playbooks/rotate.yml", *given]


def accepted(value: str) -> bool:
    """Whether OpenAI, as the stack has it, takes a key."""
    with client() as opened:
        url = f"{vendors.url('openai')}/v1/models"
        answer = opened.get(url, headers={"Authorization": f"Bearer {value}"})
    assert answer.status_code in (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED), answer.status_code
    return answer.status_code == HTTPStatus.OK


def keys() -> int:
    """How many keys of the project OpenAI has."""
    with client() as opened:
        answer = opened.get(
            f"{vendors.url('openai')}/v1/organization/projects/{vendors.OPENAI_PROJECT}/api_keys",
            params={"limit": 100},
            headers={"Authorization": f"Bearer {store().get('openai-admin-key')}"},
        )
    return len(answer.json()["data"])


def having(place: local.Machine, value: str) -> set[str]:
    """Services of a machine whose running processes have a value in their environment or a mounted file."""
    shown = machine(place).shell(
        "for id in $(docker ps --quiet --filter label=com.docker.compose.oneoff=False); do"
        " set -- $(docker inspect --format"
        " '{{index .Config.Labels \"com.docker.compose.service\"}} {{.State.Pid}}' $id);"
        ' echo "$1 $(cat /proc/$2/environ /proc/$2/root/run/secrets/* 2>/dev/null | base64 --wrap=0)"; done'
    )
    pairs = [line.partition(" ")[::2] for line in shown.splitlines()]
    assert len(pairs) > 5, f"{place.name} runs {len(pairs)} containers"
    return {service for service, given in pairs if value.encode() in base64.b64decode(given)}


def rotated(old: str, name: str = KEY) -> str:
    """Assert that nothing is under way, and another value is in use everywhere; that value."""
    assert record().state().rotations == {}
    found = store()
    new = found.get(name)
    assert new != old
    assert found.values()[name] == (new,)
    for place in local.MACHINES:
        assert having(place, new), f"nobody on {place.name} has it"
        assert having(place, old) == set()
    return new


def nothing_lost(load: Load) -> Report:
    """End the load; assert that no request failed, and that what was acknowledged is there once."""
    report = load.finish()
    found = written(load.run, report.acknowledged)
    assert (report.failed, found.missing, found.repeated) == ([], (), 0), "\n".join(report.summary())
    return report


def changes_nothing() -> None:
    """Assert that neither the program nor the site play has anything to do."""
    succeeds([*PULUMI_UP, "--expect-no-changes"])
    assert play().changes == []


def test_a_key_is_replaced_under_load_without_a_lost_request() -> None:
    old, before = store().get(KEY), keys()
    assert accepted(old)
    with loading(Plan(rate=50, seconds=600)) as load:
        load.await_requests(100)
        with load.window("rotate"):
            printed = succeeds(rotate(KEY, "-vvv", "--diff"))
        report = nothing_lost(load)
    assert len(report.during()) > 100
    new = rotated(old)
    assert accepted(new)
    assert not accepted(old)
    assert keys() == before
    assert function_secrets()["OPENAI_API_KEY"] == digest(new)
    log = "".join(event.model_dump_json() for event in record().events())
    assert [value for value in (old, new) if value in printed + log] == []
    phases = [
        f"rotate.{phase}"
        for phase in ("creating", "staged", "offered", "verified", "promoted", "revoked", "done", "end")
    ]
    # Between them are the moves of slots.
    done = [event.action for event in record().events() if event.action in phases]
    assert done[-len(phases) :] == phases
    changes_nothing()
    for place in local.MACHINES:
        serves(place.region)


@pytest.mark.parametrize("names", [NO_OVERLAP, DATABASES], ids=["no overlap", "databases"])
def test_several_are_replaced_together_without_a_lost_request(names: tuple[str, ...]) -> None:
    old = store().get_many(names)
    with loading(Plan(rate=50, seconds=600)) as load:
        load.await_requests(100)
        with load.window("rotate"):
            succeeds(rotate(",".join(names)))
        nothing_lost(load)
    for name, value in old.items():
        rotated(value, name)
    changes_nothing()
    for place in local.MACHINES:
        serves(place.region)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_killed_it_serves_and_the_same_command_ends_it(moment: Moment) -> None:
    old, before = store().get(KEY), keys()
    killed_at(rotate(KEY), moment)
    for place in local.MACHINES:
        serves(place.region)
    assert accepted(store().get(KEY)), "whoever starts now is given a key that is valid"
    succeeds(rotate(KEY))
    assert accepted(rotated(old))
    assert not accepted(old)
    assert keys() == before, "no other key is left"
    for place in local.MACHINES:
        serves(place.region)


def test_an_issuer_that_is_down_leaves_the_old_key_in_use() -> None:
    old, before = store().get(KEY), keys()
    with fault("openai", mode="down"):
        done = command(rotate(KEY))
        assert done.returncode == ExitCode.FAILED, done.stdout
        assert "OpenAI" in done.stdout
        assert store().get(KEY) == old
        for place in local.MACHINES:
            assert having(place, old) == {f"agents-{record().state().host(place.name).active_slot}"}
    assert accepted(old)
    assert len(store().values()[KEY]) == 1
    if record().state().rotations:
        again = command(rotate(KEY))
        assert again.returncode == ExitCode.ROLLED_BACK, again.stdout
    assert record().state().rotations == {}
    assert (store().get(KEY), keys()) == (old, before)


def test_check_mode_prints_the_plan_and_changes_nothing() -> None:
    events, version = record().last_event(), store().version()
    done = command([*rotate("all"), "--check"])
    assert done.returncode == ExitCode.OK, done.stdout
    assert f"{KEY}, " in done.stdout
    assert "would do" in done.stdout
    assert (record().last_event(), store().version()) == (events, version)
