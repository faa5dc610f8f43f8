"""Controller side only: keeps in the record that flags are off for everybody after a rollback (DEP-2)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures import rollout
from infra.procedures.action import Call, ProcedureAction


class ActionModule(ProcedureAction, ActionBase):
    """`flags` that were turned off: a rollout of one of them begins anew."""

    arguments = {"flags": {"type": "list", "elements": "str", "required": True}}  # noqa: RUF012

    def work(self, call: Call) -> dict[str, Any]:
        """Write it, under the lease."""
        for flag in call.arguments["flags"]:
            if not call.check:
                phase = rollout.Phase(
                    flag=flag, group=rollout.EVERYBODY, enabled=False, window=0, step=rollout.Step.OFF
                )
                call.lease.log(
                    rollout.ACTION,
                    result=phase.result,
                    why=call.operation.why,
                    details=phase.model_dump(mode="json"),
                )
            call.did(f"flag {flag} is off for everybody")
        return {"changed": bool(call.arguments["flags"])}
