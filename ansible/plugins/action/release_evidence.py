"""Controller side of `release_evidence`: takes values of secrets out of what the host says."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.lease import plain
from infra.procedures.wording import redacted
from infra.record import RecordError
from infra.secretstore import SecretStoreError, open_store
from infra.secretstore.redaction import redaction_of


class ActionModule(ProcedureAction, ActionBase):
    """`services` of the Compose `project`. Never fails: what can't be had is said in the document.

    Returns `evidence`: name of a piece -> document, as the action `operation` takes it.
    """

    _requires_connection = True

    arguments = {  # noqa: RUF012
        "project": {"type": "str", "required": True},
        "services": {"type": "list", "elements": "str", "required": True},
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Ask the host; changes nothing."""
        document: dict[str, Any] = {"host": call.host}
        try:
            redact = redaction_of(
                open_store(call.outputs.secretstore, call.stack, record=call.outputs.record)
            )
            result = plain(
                self._execute_module(
                    module_name="release_evidence", module_args=call.arguments, task_vars=call.variables
                )
            )
            if result.get("failed"):
                document["problem"] = redact(str(result.get("msg", "no message")))
            else:
                document["containers"] = redacted(result["containers"], redact)
        except (AnsibleError, SecretStoreError, RecordError) as error:
            document["problem"] = str(error)
        return {"evidence": {f"{call.host}.json": document}}
