"""Controller side of `release_evidence`: takes values of secrets out of what the host says."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.lease import plain
from infra.procedures.wording import redacted
from infra.record import RecordError
from infra.record.evidence import LARGEST
from infra.secretstore import SecretStoreError, open_store
from infra.secretstore.redaction import redaction_of

LONGEST_LINE = 4000
MOST_LOG = LARGEST // 4
"""Octets of all logs: written as JSON they may be twice as long, and still fit into a piece of evidence."""


def fitting(containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with logs that can be kept: long lines cut, of too many the last; secrets are out already."""
    room = MOST_LOG // max(1, len(containers))
    return [{**container, "log": _last(container.get("log") or [], room)} for container in containers]


def _last(lines: list[str], room: int) -> list[str]:
    kept: list[str] = []
    for line in reversed(lines):
        cut = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
        room -= len(cut.encode())
        if room < 0:
            return [f"({len(lines) - len(kept)} lines before these were left out)", *reversed(kept)]
        kept.append(cut)
    return kept[::-1]


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
                document["containers"] = fitting(redacted(result["containers"], redact))
        except (AnsibleError, SecretStoreError, RecordError) as error:
            document["problem"] = str(error)
        return {"evidence": {f"{call.host}.json": document}}
