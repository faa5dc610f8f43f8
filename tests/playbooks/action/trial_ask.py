"""Test only: a procedure's action that hands on what a host said."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction


class ActionModule(ProcedureAction, ActionBase):
    """`said`: JSON that the host answers."""

    _requires_connection = True

    arguments = {"said": {"type": "str", "required": True}}  # noqa: RUF012

    def work(self, call: Call) -> dict[str, Any]:
        """Ask it."""
        return dict(
            self._execute_module(module_name="lying", module_args=call.arguments, task_vars=call.variables)
        )
