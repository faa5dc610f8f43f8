"""Controller side only: bootstraps the record where absent, and the public DNS record."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.outputs.model import StackOutputs
from infra.record import open_record
from infra.site.bootstrap import BootstrapError, bootstrap_public_record, bootstrap_record
from infra.site.runtime import RuntimeStateError


class ActionModule(ActionBase):
    """Takes nothing: the inventory has handed the stack's outputs to every host, the controller too."""

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bootstrap; changed only where something was missing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = task_vars or {}
        outputs = StackOutputs.model_validate(json.loads(json.dumps(variables["icupa_outputs"])))
        try:
            record, check = open_record(outputs.record), bool(self._task.check_mode)
            written = bootstrap_record(record, outputs, check=check)
            written += bootstrap_public_record(record, outputs, variables["icupa_stack"], check=check)
        except (BootstrapError, RuntimeStateError) as error:
            raise AnsibleActionFail(str(error)) from None
        result.update(changed=bool(written), written=written)
        return result
