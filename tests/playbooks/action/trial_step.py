"""Test only: a procedure's action that changes the record under the lease, and says so."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.operation import ProcedureError


class ActionModule(ProcedureAction, ActionBase):
    """Sets the active region to `name`; refuses a name that begins with `refused`."""

    arguments = {"name": {"type": "str", "required": True}}  # noqa: RUF012

    def work(self, call: Call) -> dict[str, Any]:
        """Change it."""
        name = call.arguments["name"]
        if name.startswith("refused"):
            raise ProcedureError(f"{name}: not a name")
        changed = call.record.state().active_region != name
        if changed:
            call.did(f"moved to {name}")
        if changed and not call.check:
            call.lease.update("trial.step", lambda state: state.changed(active_region=name))
        return {"changed": changed}
