"""Controller side only: bootstraps the record where absent, then new hosts and the public DNS record."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.site.bootstrap import (
    BootstrapError,
    bootstrap_hosts,
    bootstrap_public_record,
    bootstrap_record,
)
from infra.site.runtime import RuntimeStateError


class ActionModule(ProcedureAction, ActionBase):
    """`part` record comes before there can be a lease; environment, all else, needs it."""

    arguments = {  # noqa: RUF012
        "part": {"type": "str", "required": True, "choices": ["record", "environment"]},
    }
    refusals = (BootstrapError, RuntimeStateError)

    def work(self, call: Call) -> dict[str, Any]:
        """Bootstrap; changed only where something was missing."""
        if call.arguments["part"] == "record":
            written = bootstrap_record(call.record, call.outputs, check=call.check)
        else:
            lease = None if call.check else call.lease
            written = bootstrap_hosts(call.record, call.outputs, lease)
            written += bootstrap_public_record(call.record, call.outputs, call.stack, check=call.check)
        if written:
            call.did(f"bootstrapped {', '.join(written)}")
        return {"changed": bool(written), "written": written}
