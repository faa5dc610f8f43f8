"""Controller side only: takes a host's record one step on; roles then make the host what it says."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.moves import Step, advance, foreseen, move
from infra.record import Slot
from infra.release.model import short
from infra.site.runtime import HostRuntime

SLOT = "icupa_release_slot"
_CHANGING = (Step.START, Step.SWITCH, Step.STOP)


class ActionModule(ProcedureAction, ActionBase):
    """`step` start, switch or stop towards `digest`; in `slot`, where the service is only started anew.

    Sets `icupa_runtime` to what the record says now, and `icupa_release_slot` to the digest's slot. A step
    that was taken before is not taken again.
    """

    arguments = {  # noqa: RUF012
        "step": {"type": "str", "required": True, "choices": [step.value for step in _CHANGING]},
        "digest": {"type": "str", "required": True},
        "slot": {"type": "str", "choices": [slot.value for slot in Slot]},
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Change the record, under the lease."""
        step, digest, host = Step(call.arguments["step"]), call.arguments["digest"], call.host
        named = Slot(call.arguments["slot"]) if call.arguments["slot"] else None
        state = call.record.state()
        slot = move(host, state.host(host), digest, slot=named).slot
        if call.check:
            after = foreseen(state, host, step, digest, named)
        elif (after := advance(state, host, step, digest, named)) != state:
            operation = call.operation
            event = call.lease.update(
                f"{operation.name}.{step}",
                lambda found: advance(found, host, step, digest, named),
                digest=digest,
                why=operation.why,
                details={"host": host, "slot": slot.value, "before": state.host(host).digest},
            )
            after = event.state or after
        if step is Step.STOP:
            call.did(f"{host}: {short(digest)} serves in {slot}, and nothing else runs")
        runtime = HostRuntime.parse(after.runtime(host)).model_dump(mode="json")
        return {
            "changed": after != state,
            "ansible_facts": {"icupa_runtime": runtime, SLOT: slot.value},
        }
