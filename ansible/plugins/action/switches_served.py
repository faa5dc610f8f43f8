"""Asks the service of a host, over the wire, whether switches are in effect; by `service_answers`."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from infra.procedures import switch
from infra.procedures.action import Call, ProcedureAction
from infra.record import Switch
from infra.secrets.references import reference
from infra.services.agents import METRICS_TOKEN
from infra.site.runtime import HostRuntime
from infra.site.secrets import SecretsError, open_resolver


class ActionModule(ProcedureAction, ActionBase):
    """`switches`, the host's `runtime`, whose slot is asked, the Compose `project`, `timeout` in seconds.

    The token that metrics ask for is in the module's arguments only, which are not shown.
    """

    _requires_connection = True

    arguments: ClassVar[dict[str, Any]] = {
        "project": {"type": "str", "required": True},
        "runtime": {"type": "dict", "required": True},
        "switches": {"type": "dict", "required": True},
        "timeout": {"type": "int", "default": 20},
    }
    refusals = (SecretsError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Ask until the answers are right, or time is up."""
        given = call.arguments
        runtime = HostRuntime.parse(given["runtime"])
        wanted = {Switch(name): bool(on) for name, on in given["switches"].items()}
        token = reference(METRICS_TOKEN)
        resolve = open_resolver(call.outputs.secretstore, call.stack, call.outputs.record, [token])
        answers: dict[str, Any] = self._execute_module(
            module_name="service_answers",
            module_args={
                "project": given["project"],
                "checks": switch.service_checks(wanted, runtime.active_slot, resolve(token)),
                "timeout": given["timeout"],
            },
            task_vars=dict(call.variables),
        )
        if not call.check and not answers.get("failed"):
            call.did(f"{call.host} serves with {switch.said(wanted)}")
        return answers
