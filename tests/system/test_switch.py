"""Switches on the running stack: in effect everywhere, without a restart, without a lost request (CFG-2)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from infra import local
from infra.outputs.read import read_outputs
from infra.record import Record, Result, Switch, open_record
from infra.smoke.checks import Smoke
from infra.smoke.target import find_target
from infra.supabase import digest
from tests.kills import running
from tests.load.plan import Kind, Plan
from tests.load.stack import loading
from tests.releases import good, releases
from tests.running import PULUMI_UP, STACK, command, machine, play, serves, succeeds
from tests.vendors import fault, function_secrets
from tests.waiting import eventually

pytestmark = pytest.mark.system

CHAT, VOICE = Switch.FEATURE_AGENT_CHAT, Switch.FEATURE_AGENT_VOICE
WEBHOOK = Switch.WHATSAPP_INTEGRATION_ENABLED
ALL_ON = dict.fromkeys(Switch, True)
UNCERTAIN = 12


def record() -> Record:
    """The stack's record."""
    return open_record(read_outputs(STACK).record)


def switch(*options: str) -> list[str]:
    """Command of the procedure."""
    return ["ansible-playbook", "ansible/playbooks/switch.yml", "-e", f"stack={STACK}", *options]


def setting(switches: Mapping[Switch, bool]) -> list[str]:
    """Command that sets them."""
    return switch("-e", f"set={json.dumps(switches)}")


def answers(region: str) -> dict[Switch, int]:
    """What endpoints behind switches answer in a region."""
    smoke = Smoke(find_target(read_outputs(STACK), STACK, region))
    with smoke.client(headers={"Authorization": f"Bearer {smoke.token()}"}) as client:
        return {
            CHAT: client.post("/api/agents/sessions").status_code,
            VOICE: client.post("/api/realtime/sessions").status_code,
            WEBHOOK: client.get("/api/whatsapp/webhook").status_code,
        }


def processes(place: local.Machine) -> list[str]:
    """Id and start of every running container of a machine."""
    shown = machine(place).shell(
        "docker inspect --format '{{.Id}} {{.State.StartedAt}}' $(docker ps --quiet)"
    )
    return sorted(shown.splitlines())


@pytest.fixture(autouse=True)
def all_on_afterwards() -> Iterator[None]:
    yield
    if record().state().switches != ALL_ON:
        succeeds(setting(ALL_ON))


def test_a_feature_goes_off_and_on_everywhere_without_a_restart_or_a_lost_request() -> None:
    before = {place.name: processes(place) for place in local.MACHINES}
    assert answers(local.PRIMARY.region)[CHAT] == 201
    # Nothing that is asked for depends on the switch; all of it goes through the same processes.
    mix = {Kind.WHOAMI: 50, Kind.HEALTH: 15, Kind.WEBHOOK: 35}
    with loading(Plan(rate=60, seconds=300, mix=mix)) as load:
        load.await_requests(100)
        with load.window("off"):
            succeeds(switch("-e", f"switch={CHAT}", "-e", "to=off", "-e", "why='bad answers'"))
        off = [answers(place.region) for place in local.MACHINES]
        secrets = function_secrets()
        with load.window("on"):
            succeeds(switch("-e", f"switch={CHAT}", "-e", "to=on"))
        report = load.finish()
    assert [(each[CHAT], each[VOICE]) for each in off] == [(503, 201)] * 2
    assert secrets[CHAT] == digest("false")
    assert function_secrets()[CHAT] == digest("true")
    assert [answers(place.region)[CHAT] for place in local.MACHINES] == [201] * 2
    assert {place.name: processes(place) for place in local.MACHINES} == before
    assert report.failed == [], report.summary()
    assert len(report.during()) > 100
    on, off_again = [event for event in record().events() if event.action == "switch.set"][-2:]
    assert (on.details["switches"], on.why) == ({CHAT: False}, "bad answers")
    assert off_again.details["switches"] == {CHAT: True}


def test_the_preset_turns_the_service_off_and_nothing_moves_it_back() -> None:
    succeeds(switch("-e", "preset=p0"))
    for place in local.MACHINES:
        assert answers(place.region) == {CHAT: 503, VOICE: 503, WEBHOOK: 503}
    secrets = function_secrets()
    assert play().changes == []
    succeeds([*PULUMI_UP, "--expect-no-changes"])
    assert play().changes == []
    assert [answers(place.region)[WEBHOOK] for place in local.MACHINES] == [503, 503]
    assert function_secrets() == secrets


def test_check_mode_shows_it_and_changes_nothing() -> None:
    events, before = record().last_event(), function_secrets()
    done = command([*switch("-e", f"switch={VOICE}", "-e", "to=off"), "--check", "--diff"])
    assert done.returncode == 0, done.stdout
    assert "-FEATURE_AGENT_VOICE=true" in done.stdout
    assert "+FEATURE_AGENT_VOICE=false" in done.stdout
    assert "would do" in done.stdout
    assert record().last_event() == events
    assert function_secrets() == before
    assert [answers(place.region)[VOICE] for place in local.MACHINES] == [201, 201]


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def test_a_lost_host_keeps_the_switch_from_no_other() -> None:
    lost, other = local.STANDBY, local.PRIMARY
    succeeds(["docker", "pause", lost.container])
    try:
        done = command(setting({VOICE: False}))
        assert done.returncode == UNCERTAIN, done.stdout
        assert f"in effect on {other.name}" in said(done)
        assert f"NOT CONFIRMED on {lost.name}" in said(done)
        assert answers(other.region)[VOICE] == 503
        assert function_secrets()[VOICE] == digest("false")
    finally:
        succeeds(["docker", "unpause", lost.container])
    serves(lost.region)
    assert answers(lost.region)[VOICE] == 201
    succeeds(setting({VOICE: False}))
    assert answers(lost.region)[VOICE] == 503


def test_functions_that_can_not_be_set_keep_the_switch_from_no_host() -> None:
    with fault("supabase", mode="down"):
        done = command(setting({VOICE: False}))
    assert done.returncode == UNCERTAIN, done.stdout
    assert "NOT CONFIRMED on the functions of" in said(done)
    assert [answers(place.region)[VOICE] for place in local.MACHINES] == [503, 503]
    succeeds(setting({VOICE: False}))
    assert function_secrets()[VOICE] == digest("false")


def test_a_running_deploy_yields_and_is_refused_at_its_next_step(tmp_path: Path) -> None:
    before = record().state().release.digest
    deploy = ["ansible-playbook", "ansible/playbooks/deploy.yml", "-e", f"stack={STACK}", "-e"]
    with releases() as made:
        candidate = made.make(good("pre-empted by a switch"))
        with running([*deploy, f"release={candidate}"]) as process:
            eventually(lambda: begun("deploy", candidate), "the deploy moves a host", 120)
            succeeds(switch("-e", f"switch={VOICE}", "-e", "to=off"))
            output, _ = process.communicate()
        assert process.returncode == UNCERTAIN, output
        assert "took it for switch" in " ".join(output.split())
        assert [answers(place.region)[VOICE] for place in local.MACHINES] == [503, 503]
        assert record().state().release.digest == before
        # The same deploy goes on from there; it moves no switch back.
        succeeds([*deploy, f"release={candidate}"])
        assert [answers(place.region)[VOICE] for place in local.MACHINES] == [503, 503]
        succeeds([*deploy, f"release={before}"])
    ended = [event for event in record().events() if event.action == "switch.end"][-1]
    assert ended.result is Result.OK


def begun(operation: str, digest: str) -> bool:
    """Whether an operation holds the lease and a host has a release of its in a slot."""
    state = record().state()
    held = state.lock is not None and state.lock.holder.operation == operation
    return held and any(digest in host.digests for host in state.hosts.values())
