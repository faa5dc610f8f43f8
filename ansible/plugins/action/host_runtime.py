"""Controller side only: reads a host's runtime state from the record again, after a step has changed it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.site.runtime import RuntimeStateError, read_runtimes


class ActionModule(ProcedureAction, ActionBase):
    """Sets `icupa_runtime`, which the inventory read at the start; a dry run foretells `maintenance`."""

    arguments = {"maintenance": {"type": "bool"}}  # noqa: RUF012
    refusals = (RuntimeStateError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Read it."""
        runtime = read_runtimes(call.outputs)[call.host]
        if call.check and call.arguments["maintenance"] is not None:
            runtime = runtime.model_copy(update={"maintenance": call.arguments["maintenance"]})
        return {"ansible_facts": {"icupa_runtime": runtime.model_dump(mode="json")}}
