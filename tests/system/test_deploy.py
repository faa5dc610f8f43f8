"""Deploys and rollbacks of the running stack: none loses a request, what fails is undone (issue 4).

Kills after every step: `make bench NAME=killed`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import docker
import pytest

from infra import local, paths
from infra.dns.client import open_client, secret_of
from infra.outputs.read import read_outputs
from infra.procedures.rollout import ACTION, GROUPS, Phase
from infra.procedures.rollout import Step as PhaseStep
from infra.record import Result
from infra.record.evidence import named_by
from infra.site.secrets import open_resolver
from tests import releases
from tests.deploys import containers, deploy, last, nothing_lost, only, record, rollback, serves_alone
from tests.kills import Moment, killed_at
from tests.running import PULUMI_UP, STACK, command, machine, play, serves, succeeds
from tests.waiting import eventually

pytestmark = pytest.mark.system

GONE_SECONDS = 35.0
ROLLED_BACK = 10
ROUTE_IS_REPLACED = Moment("the record is switched, the route is not", r"^TASK \[edge : Point the proxy")
STANDBY_IS_STARTED = Moment(
    # Its image was pulled before: the first change there is the step in the record.
    "the primary is done, the standby is starting",
    rf"^changed: \[{local.STANDBY.name}\]",
)
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


@dataclass(frozen=True)
class Digests:
    """Digests of releases by the names of their recipes."""

    by_name: Mapping[str, str]

    def __getitem__(self, recipe: releases.Recipe) -> str:
        return self.by_name[recipe.name]

    @property
    def good(self) -> str:
        """A good release that does not serve now."""
        now = record().state().release.digest
        return self[TWO] if now == self[ONE] else self[ONE]


@pytest.fixture(scope="module")
def digests() -> Iterator[Digests]:
    """Releases in the registry; what served before this module serves again afterwards."""
    former = record().state().release.digest
    with releases.releases() as made:
        found = Digests({recipe.name: made.make(recipe) for recipe in _RECIPES})
    yield found
    succeeds(deploy(former))


def settled() -> None:
    """Assert that neither the program nor the site play has anything to move back."""
    succeeds([*PULUMI_UP, "--expect-no-changes"])
    assert play().changes == []


def test_a_deploy_loses_nothing_and_leaves_nothing_to_move_back(digests: Digests) -> None:
    aim = digests.good
    with nothing_lost():
        shown = succeeds(deploy(aim, "-e", "why='a better menu'"))
    assert "deploy: OK" in shown
    serves_alone(aim)
    assert (last("deploy.release").digest, last("deploy.release").why) == (aim, "a better menu")
    settled()
    before = record().state().previous_releases
    again = succeeds(deploy(aim))
    assert "already, nothing to do" in again
    assert record().state().previous_releases == before


CASES: tuple[tuple[str, releases.Recipe | None, int, str], ...] = (
    ("never healthy", releases.NEVER_HEALTHY, ROLLED_BACK, "not healthy after"),
    ("crashing", CRASHING, ROLLED_BACK, ""),
    ("failing smoke", releases.FAILING_SMOKE, ROLLED_BACK, "customer look-up"),
    ("hanging start", releases.HANGING_START, ROLLED_BACK, "not healthy after"),
    ("broken in the standby", BROKEN_IN_STANDBY, ROLLED_BACK, "standby: not healthy after"),
    ("wrong schema", releases.WRONG_SCHEMA, 2, "9999"),
    ("unsigned", releases.UNSIGNED, 2, "sign"),
    ("absent", None, 2, "has no manifests"),
)


def test_a_broken_release_ends_with_its_verdict_and_the_old_one_serves_throughout(digests: Digests) -> None:
    serves()
    former = record().state().release.digest
    with nothing_lost():
        for name, recipe, code, said in CASES:
            digest = releases.ABSENT if recipe is None else digests[recipe]
            done = command(deploy(digest, *IMPATIENT))
            assert done.returncode == code, f"{name}\n{done.stdout}"
            undone = code == ROLLED_BACK
            assert f"deploy: {'ROLLED BACK' if undone else 'FAILED'}" in done.stdout, name
            assert said in " ".join(done.stdout.split()), name
            eventually(lambda: containers() == only(former), f"{name}: it is gone", GONE_SECONDS)
            serves_alone(former)
            assert last("deploy.end").result is (Result.ROLLED_BACK if undone else Result.FAILED)
            if undone:
                _has_evidence(name)
    assert record().verify().ok


def _has_evidence(name: str) -> None:
    pieces = [json.loads(record().evidence(piece)) for piece in named_by(last("deploy.failed"))]
    seen = [container for piece in pieces for container in piece["containers"]]
    assert any(container["health"] for container in seen), name
    assert all("Status" in container["state"] for container in seen), name


def test_a_deploy_that_was_killed_goes_on_and_the_site_play_finishes_its_step(digests: Digests) -> None:
    served, aim = record().state().release.digest, digests.good
    with nothing_lost():
        killed_at(deploy(aim), ROUTE_IS_REPLACED)
        # Both slots run and the new one serves: the host becomes what the record says, and is not moved back.
        play()
        assert containers()[local.PRIMARY.name] == {served, aim}
        assert containers()[local.STANDBY.name] == {served}
        assert record().state().host(local.PRIMARY.name).digest == aim
        assert play().changes == []
        killed_at(deploy(aim), STANDBY_IS_STARTED)
        succeeds(deploy(aim))
    serves_alone(aim)


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


def test_a_rollback_that_was_killed_goes_on_without_registry_and_turns_flags_off(
    digests: Digests,
) -> None:
    former = record().state().release.digest
    bad = digests.good
    succeeds(deploy(bad))
    opened = Phase(
        flag="ai_waiter.v2.enabled", group=GROUPS[0], enabled=True, window=60, step=PhaseStep.OPENED
    )
    record().log(ACTION, details=opened.model_dump(mode="json"))
    back = rollback("-e", "incident=https://incidents.example/42", "-e", "why='wrong prices'")
    with registry_stopped(), nothing_lost():
        killed_at(back, ROUTE_IS_REPLACED)
        shown = succeeds(back)
    assert "rollback: OK" in shown
    serves_alone(former)
    assert last("rollback.end").details["flags"] == ["ai_waiter.v2.enabled"]
    assert last("rollback.end").details["incident"] == "https://incidents.example/42"
    assert last(ACTION).details["enabled"] is False
    assert bad not in {release.digest for release in record().state().previous_releases}
    settled()


def everything() -> dict[str, str]:
    """What a dry run must leave alone: the record, files and containers of hosts, the public record."""
    files = f"cd {paths.stack_home(STACK)} && find record -type f | sort | xargs sha256sum"
    found = {
        "record": subprocess.run(["/bin/sh", "-c", files], capture_output=True, text=True, check=True).stdout
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


def test_check_mode_shows_the_plan_and_changes_nothing(digests: Digests) -> None:
    before = everything()
    shown = succeeds([*deploy(digests.good), "--check"])
    assert "deploy: OK (check mode)" in shown
    assert "start, check, switch, smoke, stop" in shown
    shown = succeeds([*rollback(), "--check"])
    assert "rollback: OK (check mode)" in shown
    assert everything() == before
