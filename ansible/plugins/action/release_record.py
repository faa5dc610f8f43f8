"""Controller side only: every host serves the release, so it is the environment's from now on."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures import deploy, rollback
from infra.procedures.action import Call, ProcedureAction
from infra.record import State, process
from infra.release.model import Checked, short


class ActionModule(ProcedureAction, ActionBase):
    """`release` as `release_check` returns it; `given_up`: the digest that a rollback leaves; `details`."""

    arguments = {  # noqa: RUF012
        "release": {"type": "dict", "required": True},
        "given_up": {"type": "str"},
        "details": {"type": "dict", "default": {}},
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Write it, under the lease; nothing where the record says so already."""
        given = {name: value for name, value in call.arguments["release"].items() if name != "reference"}
        checked, given_up = Checked.model_validate(given), call.arguments["given_up"]
        if call.check:
            call.did(f"{short(checked.digest)} becomes the environment's release in the record")
            return {}
        operator = process.operator()

        def changed(state: State) -> State:
            # A deploy that never came to its end is given up by moving its hosts: the record's release stays.
            if given_up is None or given_up != state.release.digest:
                return deploy.deployed(state, checked, operator)
            return rollback.rolled_back(state, checked, operator)

        before = call.record.state()
        if changed(before) == before:
            return {}
        operation = call.operation
        call.lease.update(
            f"{operation.name}.release",
            changed,
            digest=checked.digest,
            duration=operation.took(),
            why=operation.why,
            details={"from": before.release.digest, **call.arguments["details"]},
        )
        call.did(f"{short(checked.digest)} of commit {checked.git_sha[:12]} is the environment's release now")
        return {"changed": True}
