"""Controller side only: which release a rollback goes to, and which flags it turns off (DEP-2)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures import rollback
from infra.procedures.action import Call, ProcedureAction


class ActionModule(ProcedureAction, ActionBase):
    """`release` where the operator names one. Returns `target` {release, bad, why, flags, flags_host}.

    `flags_host` is the host that serves: its database is the one that has the flags.
    """

    arguments = {"release": {"type": "str"}}  # noqa: RUF012

    def work(self, call: Call) -> dict[str, Any]:
        """Look at the record, and keep what was found there: the same command goes on to it after a kill."""
        asked, operation = call.arguments["release"], call.operation
        events = list(call.record.events())
        found, state = rollback.resumed(events, operation.id), call.record.state()
        if found is None:
            found = rollback.target(state, asked)
            if not call.check:
                call.lease.log(rollback.TARGET, why=operation.why, details=asdict(found))
        flags = rollback.flags_turned_on(events, found.bad)
        call.say(found.why)
        if flags:
            call.say(f"turned on since then: {', '.join(flags)}")
        return {"target": {**asdict(found), "flags": flags, "flags_host": state.active_host}}
