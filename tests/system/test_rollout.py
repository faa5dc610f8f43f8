"""A rollout on the running stack: tenants who talk, faults, kills (issue 4, acceptance 3, 4 and 7)."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest

from infra import local, paths
from infra.procedures.rollout import EVERYBODY, GROUPS, Step
from infra.world import login
from tests.controller import kill
from tests.deploys import record
from tests.kills import running
from tests.rollouts import FLAG, ROLLOUT, STEPS, WINDOW, Phases, flag_table, forget, rows, steps
from tests.running import STACK, command, machine, succeeds
from tests.system.killing import kill_after, spread
from tests.turns import program, smoke, talking
from tests.waiting import eventually

pytestmark = pytest.mark.system

NOBODY: set[str] = set()
KILLS = 5
"""Of the steps; `make bench NAME=killed` kills after each."""
FAULTS = f"http://{local.VENDORS.address}:{local.VENDORS_CONTROL_PORT}/faults/openai"


@pytest.fixture(scope="module")
def table() -> Iterator[httpx.Client]:
    with flag_table() as opened:
        yield opened


@pytest.fixture(autouse=True)
def without_the_flag(table: httpx.Client) -> Iterator[None]:
    """Each test begins with a flag that nobody has, and leaves it so."""
    forget(table)
    yield
    httpx.delete(FAULTS).raise_for_status()
    forget(table)


def served() -> set[str]:
    """Tenant groups for which the service says that the flag is on."""
    seen = smoke()
    on = set()
    for group, names in login.TENANT_CLIENTS.items():
        with program(seen, names[0]) as client:
            answer = client.get("/api/flags", params={"key": FLAG}).raise_for_status().json()
        assert answer["tenant_group"] == group
        if answer["enabled"]:
            on.add(group)
    return on


@contextmanager
def rolling(phases: Phases, group: str) -> Iterator[subprocess.Popen[str]]:
    """A rollout whose phase of `group` has begun."""
    with running(ROLLOUT) as process:

        def begun() -> bool:
            if process.poll() is not None:
                said = process.stdout.read() if process.stdout else ""
                pytest.fail(f"it ended with {process.returncode}\n{said}")
            return (group, Step.HOLDING) in phases.steps()

        eventually(begun, f"{group} tenants have the flag", 120)
        yield process


def ended(process: subprocess.Popen[str]) -> int:
    """Exit code of a controller that ends by itself."""
    return process.wait(180)


def test_a_healthy_flag_comes_to_everybody(table: httpx.Client) -> None:
    phases = Phases()
    with talking() as talk:
        said = succeeds(ROLLOUT)
    assert f"{FLAG} is on for everybody" in said
    assert rows(table) == set(GROUPS)
    eventually(lambda: served() == set(GROUPS), "the service has it for everybody", 30)
    assert phases.steps() == STEPS
    assert min(phases.windows()) >= timedelta(seconds=WINDOW)
    for event in phases.events()[2::3]:
        figures = event.details["figures"][event.details["group"]]
        assert figures["turns"] >= 50
        assert figures["error_rate"] == 0
        assert 0 < figures["p95_seconds"] < 5
    assert talk.failures() == []


def test_errors_in_the_pilot_phase_turn_the_flag_off_within_two_windows(table: httpx.Client) -> None:
    phases = Phases()
    with talking() as talk, rolling(phases, "pilot") as process:
        # 400 is not tried with another model: so many calls fail, so many turns do.
        httpx.put(FAULTS, json={"error_rate": 0.05, "error_status": 400}).raise_for_status()
        assert ended(process) == 10
        httpx.delete(FAULTS).raise_for_status()
    assert phases.steps() == [*STEPS[:6], (EVERYBODY, "off")]
    opened, off = phases.events()[3], phases.events()[-1]
    assert off.at - opened.at <= timedelta(seconds=2 * WINDOW)
    assert phases.events()[-2].details["verdict"] == "breach"
    assert "errors" in phases.events()[-2].why
    assert rows(table) == NOBODY
    eventually(lambda: served() == NOBODY, "the service has it for nobody", 30)
    failed = sum(talk.answers[group][httpx.codes.BAD_GATEWAY] for group in GROUPS)
    assert failed > 0
    assert failed < 0.1 * talk.total(), "the fault was a few in a hundred"


def test_an_empty_window_is_a_no_go(table: httpx.Client) -> None:
    phases = Phases()
    with talking(("pilot", "full")):
        done = command(ROLLOUT)
    assert done.returncode == 10, done.stdout
    assert phases.steps() == [*STEPS[:3], (EVERYBODY, "off")]
    assert phases.events()[-2].details["verdict"] == "no-data"
    assert rows(table) == NOBODY


def test_a_controller_that_is_killed_goes_on_with_the_same_command(table: httpx.Client) -> None:
    phases, answered = Phases(), [0]
    with talking() as talk:
        for step in spread(steps(), KILLS):
            kill_after(step, ROLLOUT)
            assert talk.total() > answered[0], f"nobody was answered around {step}"
            answered[0] = talk.total()
        succeeds(ROLLOUT)
    assert phases.steps() == STEPS, "no phase was left out or begun twice"
    assert min(phases.windows()) >= timedelta(seconds=WINDOW)
    assert rows(table) == set(GROUPS)
    assert record().state().lock is None
    assert talk.failures() == []


def test_a_controller_that_is_killed_in_a_window_does_not_shorten_it(table: httpx.Client) -> None:
    phases = Phases()
    with talking():
        with rolling(phases, "internal") as process:
            kill(process)
        assert rows(table) == {"internal"}
        with rolling(phases, "pilot") as process:
            kill(process)
    assert phases.steps() == STEPS[:5]
    assert min(phases.windows()) >= timedelta(seconds=WINDOW)
    with talking(("full",)):
        assert command(ROLLOUT).returncode == 10, "the pilots said nothing in their window"
    assert rows(table) == NOBODY


def state_of_all(table: httpx.Client) -> dict[str, str]:
    """What a dry run must leave as it is: record, flags, DNS, containers and files of every machine."""
    files = sorted(file for file in (paths.stack_home(STACK) / "record").rglob("*") if file.is_file())
    hashed = hashlib.sha256(b"".join(str(file).encode() + file.read_bytes() for file in files))
    seen = {
        "record": hashed.hexdigest(),
        "flags": table.get("agent_runtime_configs").raise_for_status().text,
        "dns": str(smoke().names.lookup(local.DOMAIN)),
    }
    for place in local.MACHINES:
        seen[f"{place.name} containers"] = machine(place).shell(
            "docker ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.State}}' | sort"
        )
        seen[f"{place.name} files"] = machine(place).shell(
            "find /opt/icupa /var/lib/icupa /etc -type f -exec sha256sum {} + | sort | sha256sum"
        )
    return seen


def test_a_dry_run_shows_the_plan_and_changes_nothing(table: httpx.Client) -> None:
    before = state_of_all(table)
    said = succeeds([*ROLLOUT, "--check"])
    assert state_of_all(table) == before
    for group in GROUPS:
        assert f"{group}: on, held for {WINDOW} s; goes on with at least" in said
        assert f"{group}, last {WINDOW} s: " in said
