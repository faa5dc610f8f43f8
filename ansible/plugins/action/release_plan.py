"""Controller side only: what is left to do on each host until it serves a release and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures import deploy
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.moves import Move, Step
from infra.procedures.operation import ProcedureError
from infra.record import HostState
from infra.release.model import HostImage, host_images

PLAN = "icupa_plan"
_ANSWERED = "icupa_release_images"


def tidied(move: Move, host: HostState, images: Iterable[HostImage]) -> Move:
    """The move, and that the other slot is stopped where it is not: a run was killed between record and host.

    Only the record says that this step was taken: it comes first. Containers of what does not serve say that
    the host did not follow.
    """
    known = list(images)
    serving = {image.id for image in known if image.digest in host.digests}
    left = [image for image in known if image.containers and image.id not in serving]
    return replace(move, steps=(Step.STOP,)) if left and not move.steps else move


class ActionModule(ProcedureAction, ActionBase):
    """Sets the fact `icupa_plan` {digest, steps by host, undo, nothing (to do), before (last good digest)}.

    `digest` to move to; or `undo`, to the last good release of the record. Every machine must have answered
    `release_look` or `release_images` before.
    """

    arguments = {  # noqa: RUF012
        "digest": {"type": "str"},
        "undo": {"type": "bool", "default": False},
    }
    constraints = {"required_one_of": [["digest", "undo"]]}  # noqa: RUF012

    def work(self, call: Call) -> dict[str, Any]:
        """Look at the record; changes nothing."""
        hosts, undo = list(call.variables["groups"]["machines"]), call.arguments["undo"]
        state = call.record.state()
        if undo:
            plan = deploy.undo_plan(state, hosts)
        else:
            silent = [name for name in hosts if _ANSWERED not in call.variables["hostvars"][name]]
            if silent:
                raise ProcedureError(f"{', '.join(silent)} did not answer; no host was changed")
            images = host_images(call.variables, hosts)
            found = deploy.plan(state, call.arguments["digest"], hosts)
            plan = replace(
                found,
                moves=tuple(tidied(move, state.host(move.host), images[move.host]) for move in found.moves),
            )
        for line in plan.lines:
            if call.check or plan.nothing_to_do:
                call.did(line)
            call.say(line)
        fact = {
            "digest": plan.digest,
            "steps": plan.steps(),
            "undo": undo,
            "nothing": plan.nothing_to_do,
            "before": state.release.digest,
        }
        return {"ansible_facts": {PLAN: fact}}
