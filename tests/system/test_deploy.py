"""Deploys and rollbacks of the running stack: none loses a request, what fails is undone (issue 4)."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import docker
import pytest

from infra import local, paths
from infra.dns.client import open_client, secret_of
from infra.outputs.read import read_outputs
from infra.record import Event, Record, Result, open_record
from infra.record.evidence import named_by
from infra.site.secrets import open_resolver
from tests import releases
from tests.load.plan import Plan
from tests.load.stack import loading, lossless
from tests.running import PULUMI_UP, STACK, command, machine, play, serves, succeeds
from tests.system.killing import kill_after, spread, trace
from tests.waiting import eventually

pytestmark = pytest.mark.system

HOSTS = {place.name for place in local.MACHINES}
LOAD = Plan(rate=40, seconds=600)
GONE_SECONDS = 35.0
STEPS_AT_LEAST = 40
KILLS = 3
IMPATIENT = ("-e", "release_start_seconds=12")
BROKEN_IN_STANDBY = releases.Recipe(
    "never healthy in the standby",
    {
        releases.CUSTOMIZE: "import os, sys\n\n"
        'if "serve" in sys.orig_argv and os.environ.get("REGION") != "primary":\n'
        "    from agents_service import app\n"
        "    async def _never(_store):\n"
        '        return {"database": "unreachable", "schema": "unknown"}\n'
        "    app._check_database = _never\n"
    },
)


def record() -> Record:
    """The stack's record."""
    return open_record(read_outputs(STACK).record)


def deploy(release: str, *options: str) -> list[str]:
    """Command of a deploy."""
    return _playbook("deploy", "-e", f"release={release}", *options)


def rollback(*options: str) -> list[str]:
    """Command of a rollback."""
    return _playbook("rollback", *options)


def _playbook(name: str, *options: str) -> list[str]:
    return ["ansible-playbook", f"ansible/playbooks/{name}.yml", "-e", f"stack={STACK}", *options]


def containers() -> dict[str, set[str]]:
    """Digests of the service's containers, ended ones too, by host: what is, whatever the record says."""
    shown = '{{.Label "com.docker.compose.service"}} {{.Image}}'
    found = {}
    for place in local.MACHINES:
        listed = machine(place).shell(f"docker ps --all --no-trunc --format '{shown}'").splitlines()
        found[place.name] = {line.rpartition("@")[2] for line in listed if line.startswith("agents-")}
    return found


def only(digest: str) -> dict[str, set[str]]:
    """What `containers` finds where a release serves alone everywhere."""
    return {host: {digest} for host in HOSTS}


def serves_alone(digest: str) -> None:
    """Assert that record and hosts agree that a release serves, and nothing else runs."""
    state = record().state()
    assert state.release.digest == digest
    assert {host: set(found.digests) for host, found in state.hosts.items()} == only(digest)
    assert containers() == only(digest)
    assert state.lock is None


def settled() -> None:
    """Assert that neither the program nor the site play has anything to move back."""
    succeeds([*PULUMI_UP, "--expect-no-changes"])
    assert play().changes == []


def last(action: str) -> Event:
    """The last event of an action."""
    return [event for event in record().events() if event.action == action][-1]


@contextmanager
def nothing_lost(plan: Plan = LOAD) -> Iterator[None]:
    """Load while the block runs: no request may fail, no acknowledged write may be missing."""
    with loading(plan) as load:
        load.await_requests(round(plan.rate))
        yield
        load.await_requests(round(plan.rate * 2))
        lossless(load)


@dataclass(frozen=True)
class Digests:
    """Digests of releases by the names of their recipes."""

    by_name: Mapping[str, str]
    former: str

    def __getitem__(self, recipe: releases.Recipe) -> str:
        return self.by_name[recipe.name]


ONE, TWO = releases.good("system one"), releases.good("system two")
CRASHING = releases.crashing(2.0)
_RECIPES = (
    ONE,
    TWO,
    CRASHING,
    BROKEN_IN_STANDBY,
    releases.NEVER_HEALTHY,
    releases.HANGING_START,
    releases.FAILING_SMOKE,
    releases.WRONG_SCHEMA,
    releases.UNSIGNED,
)


@pytest.fixture(scope="module")
def digests() -> Iterator[Digests]:
    """Releases in the registry; what served before this module serves again afterwards."""
    former = record().state().release.digest
    with releases.releases() as made:
        found = Digests({recipe.name: made.make(recipe) for recipe in _RECIPES}, former)
    yield found
    succeeds(deploy(former))


def good(digests: Digests) -> str:
    """A good release that does not serve now."""
    now = record().state().release.digest
    return digests[TWO] if now == digests[ONE] else digests[ONE]


def test_a_deploy_loses_nothing_and_leaves_nothing_to_move_back(digests: Digests) -> None:
    aim = good(digests)
    with nothing_lost():
        shown = succeeds(deploy(aim, "-e", "why=a better menu"))
    assert "deploy: OK" in shown
    serves_alone(aim)
    assert last("deploy.release").digest == aim
    assert last("deploy.end").why == ""
    settled()
    before = record().state().previous_releases
    again = succeeds(deploy(aim))
    assert "already, nothing to do" in again
    assert record().state().previous_releases == before


CASES: tuple[tuple[str, releases.Recipe | None, int, str], ...] = (
    ("never healthy", releases.NEVER_HEALTHY, 10, "not healthy after"),
    ("crashing", CRASHING, 10, ""),
    ("failing smoke", releases.FAILING_SMOKE, 10, "customer look-up"),
    ("hanging start", releases.HANGING_START, 10, "not healthy after"),
    ("broken in the standby", BROKEN_IN_STANDBY, 10, "standby: not healthy after"),
    ("wrong schema", releases.WRONG_SCHEMA, 2, "9999"),
    ("unsigned", releases.UNSIGNED, 2, "sign"),
    ("absent", None, 2, "not in"),
)


def test_a_broken_release_ends_with_its_verdict_and_the_old_one_serves_throughout(digests: Digests) -> None:
    serves()
    good_one = record().state().release.digest
    with nothing_lost():
        for name, recipe, code, said in CASES:
            digest = releases.ABSENT if recipe is None else digests[recipe]
            done = command(deploy(digest, *IMPATIENT))
            ended = time.monotonic()
            assert done.returncode == code, f"{name}\n{done.stdout}"
            verdict = "deploy: ROLLED BACK" if code == ROLLED_BACK else "deploy: FAILED"
            assert verdict in done.stdout, name
            assert said in " ".join(done.stdout.split()), name
            eventually(lambda: containers() == only(good_one), f"{name}: it is gone", GONE_SECONDS)
            assert time.monotonic() - ended < GONE_SECONDS
            serves_alone(good_one)
            assert last("deploy.end").result is (Result.ROLLED_BACK if code == ROLLED_BACK else Result.FAILED)
            if code == ROLLED_BACK:
                _has_evidence(name)
    settled()


ROLLED_BACK = 10


def _has_evidence(name: str) -> None:
    pieces = [json.loads(record().evidence(piece)) for piece in named_by(last("deploy.failed"))]
    assert pieces, name
    seen = [container for piece in pieces for container in piece["containers"]]
    assert any(container["health"] for container in seen), name
    assert all("state" in container for container in seen), name
    assert record().verify().ok


def _converges_after_kills(commands: dict[str, list[str]], kills: int) -> None:
    """Kill runs that go to and fro; each, run again, comes to its end, and the service always answers."""
    aims = list(commands)
    steps = trace(commands[aims[0]])
    assert len(steps) >= STEPS_AT_LEAST
    serves_alone(aims[0])
    with nothing_lost():
        for number, step in enumerate(spread(steps, kills + 2)[1:-1], 1):
            aim = aims[number % 2]
            kill_after(step, commands[aim])
            succeeds(commands[aim])
            serves_alone(aim)
    settled()


def test_a_deploy_that_was_killed_goes_on(digests: Digests) -> None:
    first = good(digests)
    second = digests[TWO] if first == digests[ONE] else digests[ONE]
    _converges_after_kills({aim: deploy(aim) for aim in (first, second)}, KILLS)


def test_the_site_play_finishes_the_step_at_which_a_deploy_was_killed(digests: Digests) -> None:
    """Both slots run and the new one serves, as the record says; nothing is moved back."""
    aim = good(digests)
    steps = trace(deploy(aim))
    other = good(digests)
    switched = [
        step
        for step in steps
        if step.name.endswith("Say that the release serves, and the other slot is the fallback")
    ]
    with nothing_lost():
        kill_after(switched[0], deploy(other))
        state = record().state()
        assert state.host(local.PRIMARY.name).digest == other
        play()
        assert containers()[local.PRIMARY.name] == {aim, other}
        assert containers()[local.STANDBY.name] == {aim}
        assert play().changes == []
        assert f"agents-{state.host(local.PRIMARY.name).active_slot}" in machine(local.PRIMARY).shell(
            "cat /opt/icupa/deployments/agents-service/traefik/dynamic/active.yml"
        )
        succeeds(deploy(other))
    serves_alone(other)


@contextmanager
def registry_stopped() -> Iterator[None]:
    """The environment's registry is down while the block runs."""
    client = docker.from_env()
    registry = client.containers.get(local.REGISTRY.container)
    registry.stop(timeout=2)
    try:
        yield
    finally:
        registry.start()
        client.close()


def test_a_rollback_needs_no_registry_turns_flags_off_and_leaves_nothing_to_move_back(
    digests: Digests,
) -> None:
    first = record().state().release.digest
    bad = good(digests)
    succeeds(deploy(bad))
    details = {"flag": "ai_waiter.v2.enabled", "group": "internal", "enabled": True}
    record().log("rollout.phase", details=details)
    with registry_stopped(), nothing_lost():
        shown = succeeds(rollback("-e", "incident=https://incidents.example/42", "-e", "why=wrong prices"))
    assert "rollback: OK" in shown
    serves_alone(first)
    assert last("rollback.end").details["flags"] == ["ai_waiter.v2.enabled"]
    assert last("rollback.end").details["incident"] == "https://incidents.example/42"
    assert last("rollout.phase").details["enabled"] is False
    assert bad not in {former.digest for former in record().state().previous_releases}
    settled()


def test_a_rollback_that_was_killed_goes_on(digests: Digests) -> None:
    aim = good(digests)
    before = record().state().release.digest
    _converges_after_kills(
        {aim: rollback("-e", f"release={aim}"), before: rollback("-e", f"release={before}")}, 2
    )


def everything() -> dict[str, str]:
    """What a dry run must leave alone: the record, files and containers of hosts, the public record."""
    found = {
        "record": _shell(f"cd {paths.stack_home(STACK)} && find record -type f | sort | xargs sha256sum")
    }
    for place in local.MACHINES:
        found[place.name] = machine(place).shell(
            "find /opt/icupa /var/lib/icupa /etc/systemd/system -xdev -type f -exec sha256sum {} + | sort;"
            " docker ps --all --no-trunc --format '{{.ID}} {{.Image}} {{.Names}} {{.State}}' | sort;"
            " docker image ls --all --quiet --no-trunc | sort"
        )
    outputs = read_outputs(STACK)
    reference = secret_of(outputs.settings.dns)
    secret = open_resolver(outputs.secretstore, STACK, outputs.record, [reference])(reference)
    found["dns"] = str(open_client(outputs.settings.dns, secret).read(outputs.domain))
    return found


def _shell(text: str) -> str:
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=True).stdout


def test_check_mode_shows_the_plan_and_changes_nothing(digests: Digests) -> None:
    aim = good(digests)
    before = everything()
    shown = succeeds([*deploy(aim), "--check"])
    assert "deploy: OK (check mode)" in shown
    assert "start, check, switch, smoke, stop" in shown
    shown = succeeds([*rollback(), "--check"])
    assert "rollback: OK (check mode)" in shown
    assert everything() == before
