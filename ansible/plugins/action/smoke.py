"""Controller side only: checks the environment from outside, one line a check."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible.plugins.action import ActionBase
from infra.outputs.model import StackOutputs
from infra.procedures.facts import refuse_forged
from infra.procedures.operation import ProcedureError
from infra.smoke import report
from infra.smoke.checks import Smoke
from infra.smoke.target import TargetError, find_target


class ActionModule(ActionBase):
    """`region`: its name, not the public one; `health: false` lets the service be down in maintenance."""

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run all checks; fails where one does. Changes nothing but a test voucher, made and voided."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={"region": {"type": "str"}, "health": {"type": "bool", "default": True}}
        )
        variables = task_vars or {}
        try:
            refuse_forged(variables)
        except ProcedureError as error:
            raise AnsibleActionFail(str(error)) from None
        if self._task.check_mode:
            result.update(
                changed=False, msg="not run in check mode: it makes a voucher, and voids it", checks=[]
            )
            return result
        outputs = StackOutputs.model_validate(json.loads(json.dumps(variables["icupa_outputs"])))
        try:
            target = find_target(outputs, variables["icupa_stack"], arguments["region"])
        except TargetError as error:
            raise AnsibleActionFail(str(error)) from None
        results = []
        for found in report.run(Smoke(target).checks(health=arguments["health"])):
            Display().display(found.line)
            results.append(found)
        report.write(target.report, target.name, results)
        bad = report.failed(results)
        name = f"{target.name} (in maintenance)" if target.maintenance else target.name
        result.update(
            changed=False,
            failed=bool(bad),
            msg=f"{name}: {len(bad)} of {len(results)} checks failed; report: {target.report}",
            checks=[asdict(found) for found in results],
        )
        return result
