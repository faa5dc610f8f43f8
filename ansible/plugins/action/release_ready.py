"""Controller side only: refuses to move a host that is not what stack and record say."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures import deploy
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.operation import ProcedureError


class ActionModule(ProcedureAction, ActionBase):
    """`reasons` and `ready` as `release_look` gives them.

    Judged by `infra.procedures.deploy.not_ready`. Returns `ready`: whether all that must run is healthy; of a
    host that is moved all the same it may not be.
    """

    arguments = {  # noqa: RUF012
        "reasons": {"type": "list", "elements": "str", "required": True},
        "ready": {"type": "bool", "required": True},
        "accept_unhealthy": {"type": "bool", "default": False},
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Judge; changes nothing."""
        state = call.record.state()
        serving = state.host(call.host).active_slot
        accept = call.arguments["accept_unhealthy"]
        found = deploy.not_ready(call.arguments["reasons"], serving, accept_unhealthy=accept)
        if found:
            if rotating := [name for name, rotation in state.rotations.items() if rotation.offered]:
                raise ProcedureError(
                    f"{call.host} is in the middle of a rotation that was not ended: end it first,"
                    f" rotate.yml -e secret={','.join(rotating)}"
                )
            raise ProcedureError(
                f"{call.host} is not what stack and record say: {'; '.join(found)}. Run the site play first;"
                " where the release itself is ill, roll back, or say -e accept_unhealthy=true to replace it"
            )
        return {"ready": call.arguments["ready"]}
