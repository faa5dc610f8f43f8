"""What hosts answer is data: which of it may become a variable on the controller, and which never (SEC-4).

Ansible makes facts of whatever a module's answer calls so, and puts them above the inventory's variables. A
host that was broken into could thus name its own record, or have any secret written into its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.procedures.operation import ProcedureError

_OURS = (
    "icupa_",
    "agents_stack_",
    "edge_",
    "docker_engine_",
    "hardening_",
    "otel_collector_",
    "preflight_",
    "backup_",
    "release_",
)
"""Beginnings of the names of variables of inventory and roles."""
_SET_BY_ACTIONS = frozenset(
    {
        "icupa_backup",
        "icupa_release_images",
        "icupa_release_slot",
        "icupa_runtime",
    }
)
"""Facts that our actions set for a machine, and that are only read as its own."""
_FOR_THE_CONTROLLER = ("ansible_facts", "add_host", "add_group", "ansible_stats", "runbook")
"""Keys of an answer that Ansible, or its callback `runbook`, would act on."""


def refuse_forged(task_vars: Mapping[str, Any]) -> None:
    """Raise ProcedureError where a fact of the task's host hides a variable of inventory or roles.

    Those of the controller are its own: what hosts answer never gets there (`only_data`).
    """
    if task_vars.get("inventory_hostname") == "localhost":
        return
    facts = task_vars.get("ansible_facts") or {}
    forged = sorted(name for name in facts if name.startswith(_OURS) and name not in _SET_BY_ACTIONS)
    if forged:
        raise ProcedureError(
            f"{task_vars['inventory_hostname']} answers with {', '.join(forged)}, which only the controller"
            " may say: look at that host, it may be in other hands"
        )


def only_data(answer: dict[str, Any]) -> dict[str, Any]:
    """A module's answer without what would change something on the controller."""
    return {name: value for name, value in answer.items() if name not in _FOR_THE_CONTROLLER}
