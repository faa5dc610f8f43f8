"""Maintenance of the running stack: who gets which answer, and windows that are killed anywhere (DEP-6)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest

from infra import local
from infra.outputs.read import read_outputs
from infra.record import Event, Maintenance, Record, open_record
from infra.record.model import now
from infra.secrets.catalogue import Channel
from infra.services.traefik import WEBHOOK_PATH
from infra.smoke.checks import Smoke
from infra.smoke.target import find_target
from tests.kills import running
from tests.running import STACK, command, machine, play, serves, succeeds
from tests.system.killing import kill_after, listed, spread, trace
from tests.vendors import messages

pytestmark = pytest.mark.system

KILLS = 3
STEPS_AT_LEAST = 40
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
QUICK = ("-e", "short_notice=drill", "-e", "watch_minutes=0.1")


def record() -> Record:
    """The stack's record."""
    return open_record(read_outputs(STACK).record)


def maintenance() -> Maintenance:
    """What the record says of it."""
    return record().state().maintenance


def playbook(*options: str) -> list[str]:
    """Command of a maintenance."""
    return ["ansible-playbook", "ansible/playbooks/maintenance.yml", "-e", f"stack={STACK}", *options]


def window(at: datetime, why: str, *options: str) -> list[str]:
    """Command of a window that begins now, watched for seconds."""
    return playbook("-e", f"at={at:%Y-%m-%dT%H:%MZ}", "-e", f"why={why}", *QUICK, *options)


def told(mark: str) -> list[str]:
    """Titles of the messages with a mark that #status got, oldest first."""
    found = [message for message in messages(Channel.STATUS) if mark in str(message)]
    return [message["blocks"][0]["text"]["text"] for message in found]


def since(last: int) -> list[Event]:
    """Events after one."""
    return list(record().events(last))


@pytest.fixture
def mark() -> str:
    return f"drill-{uuid.uuid4().hex}"


@pytest.fixture
def minute() -> datetime:
    """This minute, or one before, that the last window was not planned for."""
    found = now().replace(second=0, microsecond=0)
    return found - timedelta(hours=1) if found == maintenance().completed else found


@pytest.fixture(autouse=True)
def off_again() -> Iterator[None]:
    yield
    if maintenance().enabled or maintenance().window is not None:
        succeeds(playbook("-e", "mode=off", "-e", "take_from=root"))
    if maintenance().window is not None:
        succeeds(playbook("-e", "mode=cancel"))
    serves()


@pytest.fixture
def regions() -> list[Smoke]:
    """The public name, and each region's."""
    outputs = read_outputs(STACK)
    names = [None, *(place.region for place in local.MACHINES)]
    return [Smoke(find_target(outputs, STACK, region)) for region in names]


def is_maintenance(response: httpx.Response, kind: str) -> None:
    """Assert that it is the maintenance answer."""
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["Content-Type"].partition(";")[0] == kind
    assert response.headers["Strict-Transport-Security"]
    assert response.headers["Cache-Control"] == "no-store"


def test_maintenance_is_what_everybody_gets_until_it_is_off(regions: list[Smoke], mark: str) -> None:
    kept = [(smoke, smoke.client()) for smoke in regions]
    for _, client in kept:
        assert client.get("/api/whoami").status_code == 401

    succeeds(playbook("-e", "mode=on", "-e", f"why={mark}"))
    assert maintenance().enabled
    for smoke, client in kept:
        program = {"Authorization": f"Bearer {smoke.token()}"}
        # The connections were open before: they too get it, with the next request.
        is_maintenance(client.get("/", headers=BROWSER), "text/html")
        assert "We are doing maintenance" in client.get("/", headers=BROWSER).text
        for headers in ({}, program):
            answer = client.get("/api/whoami", headers=headers)
            is_maintenance(answer, "application/json")
            assert answer.json()["error"]["code"] == "maintenance"
        is_maintenance(client.post(WEBHOOK_PATH, content=b"{}"), "application/json")
        is_maintenance(client.post("/api/agents/sessions", content=b"x" * 5_000_000), "application/json")
        assert client.get("/health", headers=program).json()["git_sha"]
        assert client.get("/health/ready", headers=program).status_code == 200

    assert play().changes == [], "the site play has nothing to move back"
    is_maintenance(kept[0][1].get("/", headers=BROWSER), "text/html")

    succeeds(playbook("-e", "mode=off", "-e", f"why={mark}"))
    for smoke, client in kept:
        assert client.get("/api/whoami").status_code == 401
        assert client.get("/api/whoami", headers={"Authorization": f"Bearer {smoke.token()}"}).is_success
        client.close()
    assert told(mark) == [f"{STACK}: users get the maintenance answer", f"{STACK}: users get the service"]
    assert play().changes == []


def test_maintenance_needs_no_service_behind_it(mark: str) -> None:
    primary = machine(local.PRIMARY)
    slot = record().state().host(local.PRIMARY.name).active_slot
    name = f"agents-service-agents-{slot}-1"
    primary.shell(f"docker stop --time 1 {name}")
    try:
        succeeds(playbook("-e", "mode=on", "-e", f"why={mark}"))
        smoke = Smoke(find_target(read_outputs(STACK), STACK))
        is_maintenance(smoke.anonymous.get("/", headers=BROWSER), "text/html")
    finally:
        primary.shell(f"docker start {name}")
    succeeds(playbook("-e", "mode=off", "-e", f"why={mark}"))


def test_the_answer_writes_nothing_and_has_no_rights() -> None:
    primary = machine(local.PRIMARY)
    shown = primary.shell(
        "docker inspect agents-service-maintenance-1 --format"
        " '{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.HostConfig.CapDrop}} {{.HostConfig.Memory}}'"
    )
    assert shown.split() == ["true", "10008:10008", "[ALL]", str(48 * 1024 * 1024)]
    assert "tcp" not in primary.shell("docker port agents-service-maintenance-1")


def test_a_window_from_the_notice_to_the_end(minute: datetime, mark: str) -> None:
    last = record().last_event()
    release = record().state().release.digest
    output = succeeds(window(minute, mark, "-e", f"release={release}", "-e", "system_updates=true"))
    shown = " ".join(output.split())
    for said in ("backed up agents of primary", "maintenance is ON", "is off", "watched primary for 6.0 s"):
        assert said in shown, output
    assert maintenance() == Maintenance(completed=minute)
    order = [event.action for event in since(last) if event.action.startswith(("maintenance.", "backup"))]
    steps = [
        *("maintenance.begin", "maintenance.announced", "backup", "maintenance.step", "maintenance.on"),
        *("maintenance.step", "maintenance.step", "maintenance.step", "maintenance.off"),
        *("maintenance.complete", "maintenance.end"),
    ]
    assert order == steps
    titles = told(mark)
    assert len(titles) == 3
    assert titles[1] == f"{STACK}: maintenance has begun"
    assert titles[2] == f"{STACK}: maintenance is complete"

    again = succeeds(window(minute, mark))
    assert "is complete" in again
    assert told(mark) == titles


def test_without_a_backup_nothing_else_is_done(minute: datetime, mark: str) -> None:
    done = command(window(minute, mark, "-e", "backup_directory=/proc/nowhere"))
    assert done.returncode == 2, done.stdout
    assert "MAINTENANCE: FAILED" in done.stdout.upper()
    assert not maintenance().enabled
    planned = maintenance().window
    assert planned is not None
    assert planned.done == ()
    smoke = Smoke(find_target(read_outputs(STACK), STACK))
    assert smoke.anonymous.get("/api/whoami").status_code == 401


def test_a_window_that_is_killed_anywhere_goes_on(minute: datetime, mark: str) -> None:
    whole = window(minute, mark)
    steps = trace(whole)
    assert len(steps) >= STEPS_AT_LEAST
    assert len(listed(whole)) >= STEPS_AT_LEAST
    for number, step in enumerate(spread(steps, KILLS), 1):
        arguments = window(minute - timedelta(minutes=number), mark)
        killed = kill_after(step, arguments)
        assert killed.steps[-1] == step
        shown = " ".join(succeeds(arguments).split())
        assert maintenance() == Maintenance(completed=minute - timedelta(minutes=number)), str(step)
        assert record().state().lock is None
        assert "maintenance: OK" in shown
        serves()


def test_what_breaks_while_it_is_watched_is_said_and_watched_again(minute: datetime, mark: str) -> None:
    standby, arguments = machine(local.STANDBY), window(minute, mark, "-e", "watch_minutes=1")
    slot = record().state().host(local.STANDBY.name).active_slot
    name = f"agents-service-agents-{slot}-1"
    with running(arguments) as process:
        assert process.stdout
        shown = ""
        while "TASK [Watch health and errors]" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        standby.shell(f"docker stop --time 1 {name}")
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            standby.shell(f"docker start {name}")
    assert process.returncode == 2, shown + output
    said = " ".join(output.split())
    assert "not healthy 3 times in a row: /health/ready answers 502" in said
    assert "primary was watched no longer: standby: not healthy" in said
    found = maintenance().window
    assert not maintenance().enabled
    assert found is not None
    assert found.done[-1] == "off"
    serves(local.STANDBY.region)
    succeeds(window(minute, mark))
    assert maintenance() == Maintenance(completed=minute)


def test_a_dry_run_shows_it_and_changes_nothing(minute: datetime, mark: str) -> None:
    before, state = record().last_event(), record().state()
    shown = " ".join(succeeds(window(minute, mark, "--check")).split())
    for said in ("back up database agents of primary", "turn maintenance on", "watch primary for 6.0 s"):
        assert f"would do {said}" in shown
    assert (record().last_event(), record().state()) == (before, state)
    assert told(mark) == []
