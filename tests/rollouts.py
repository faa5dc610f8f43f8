"""Rollouts of a flag on the running stack, as tests and benchmarks handle them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx

from infra.outputs.read import read_outputs
from infra.procedures.rollout import ACTION, GROUPS, Step
from infra.record import Event
from tests.deploys import record
from tests.running import STACK
from tests.system.killing import Step as Task
from tests.system.killing import listed
from tests.turns import smoke

FLAG = "ai_waiter.v2.enabled"
WINDOW = 30
"""Six scrapes; of the first two the service may not know of the flag yet."""
ROLLOUT = [
    *("ansible-playbook", "ansible/playbooks/rollout.yml", "-e", f"stack={STACK}"),
    *("-e", f"flag={FLAG}", "-e", f"window={WINDOW}", "-e", "why=drill"),
]
STEPS = [(group, step.value) for group in GROUPS for step in (Step.OPENED, Step.HOLDING, Step.JUDGED)]
_TASKS = 17


def steps() -> list[Task]:
    """Every task of a rollout, in order."""
    names = listed(ROLLOUT)
    assert len(names) == _TASKS
    return [Task(number, name) for number, name in enumerate(names, 1)]


@contextmanager
def flag_table() -> Iterator[httpx.Client]:
    """Supabase's data API as the service speaks to it."""
    seen = smoke()
    stack = read_outputs(STACK)
    key = seen.target.secrets.get("supabase-service-role-key")
    project = stack.projects[stack.hosts[0].name]
    base = project["env_files"]["agents-service.env"]["SUPABASE_URL"]
    with seen.client(headers={"apikey": key, "Authorization": f"Bearer {key}"}) as client:
        client.base_url = httpx.URL(f"{base}/rest/v1/")
        yield client


def forget(table: httpx.Client) -> None:
    """Make the flag one that nobody has."""
    table.delete("agent_runtime_configs", params={"key": f"eq.{FLAG}"}).raise_for_status()


def rows(table: httpx.Client) -> set[str]:
    """Tenant groups for which the flag is on, as the table has it."""
    found = table.get("agent_runtime_configs", params={"key": f"eq.{FLAG}"}).raise_for_status().json()
    return {row["tenant_group"] for row in found if row["enabled"]}


class Phases:
    """Events of the flag that were written since it was made."""

    def __init__(self) -> None:
        self._record = record()
        self._after = self._record.last_event()

    def events(self) -> list[Event]:
        """The phases, oldest first."""
        return [
            event
            for event in self._record.events(self._after)
            if event.action == ACTION and event.details["flag"] == FLAG
        ]

    def steps(self) -> list[tuple[str, str]]:
        """Group and step of each."""
        return [(event.details["group"], event.details["step"]) for event in self.events()]

    def windows(self) -> list[timedelta]:
        """From the beginning of each window to its verdict."""
        began: dict[str, Event] = {}
        found = []
        for event in self.events():
            group, step = event.details["group"], event.details["step"]
            if step == Step.HOLDING:
                began[group] = event
            elif step == Step.JUDGED:
                found.append(event.at - began[group].at)
        return found
