"""Controller side only, through `release_command`: may the release run on the host's database (DEP-4)?"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.release.commands import Name, one_off, summary
from infra.release.model import Checked, ReleaseError, host_images, short
from infra.release.schema import Plan, parse_plan, problems, served, standing
from infra.services.model import Slot


class ActionModule(ProcedureAction, ActionBase):
    """Asks the release's own code what it would migrate, and judges that by the releases that may run again.

    It is not asked where the host tells already: what serves there needs the same revision and is ready
    (`serving_ready`: seen in this run), which it is only on a schema that serves that revision.

    Run it on every host before the first one is changed, after `release_images`. Fails with every reason.
    `slot` is whose definition it gets, the one that does not serve unless said otherwise. `allow_contract`
    names contract migrations after which older releases can't be rolled back to any more.
    Returns `plan` ({needs, at, serves, pending, problem}), None where a dry run has no image to ask.
    """

    _requires_connection = True

    arguments = {  # noqa: RUF012
        "release": {"type": "dict", "required": True},
        "slot": {"type": "str", "choices": [slot.value for slot in Slot]},
        "allow_contract": {"type": "list", "elements": "str", "default": []},
        "serving_ready": {"type": "bool", "default": False},
        "root": {"type": "path"},
        "docker_config": {"type": "path"},
        "timeout": {"type": "float", "default": 60.0},
    }
    refusals = (ReleaseError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Ask and judge; changes nothing."""
        checked = Checked.parse(call.arguments["release"])
        state, on_hosts = call.record.state(), host_images(call.variables)
        known = call.arguments["serving_ready"] and call.arguments["slot"] is None
        plan = served(checked, state.host(call.host).digest, on_hosts[call.host]) if known else None
        plan = plan or self._ask(call, checked)
        if plan is None:
            call.did(f"{call.host}: migrations are not known before {short(checked.digest)} is on the host")
            return {"plan": None}
        others = standing(state, on_hosts)
        found = problems(checked, plan, others, call.arguments["allow_contract"])
        if found:
            listed = "\n  ".join(found)
            return {
                "failed": True,
                "msg": f"{short(checked.digest)} must not run on the database of {call.host}:\n  {listed}",
                "plan": plan.model_dump(),
                "problems": found,
            }
        call.did(f"{call.host}: {plan.line}")
        return {"plan": plan.model_dump()}

    def _ask(self, call: Call, checked: Checked) -> Plan | None:
        commands = call.outputs.settings.commands
        slot = Slot(call.arguments["slot"] or call.record.state().host(call.host).active_slot.other)
        wanted = one_off(Name.MIGRATION_PLAN, commands, slot, checked.reference)
        root = call.arguments["root"] or str(call.variables["agents_stack_root"])
        where = (root, call.arguments["docker_config"], call.arguments["timeout"])
        result = self._execute_module(
            module_name="release_command", module_args=wanted.module(*where), task_vars=call.variables
        )
        if result.get("failed"):
            raise AnsibleActionFail(str(result.get("msg", "no message")), result=result)
        if not result["ran"]:
            return None
        if result["timed_out"] or result["rc"] != 0:
            said = "\n  ".join(summary(result["stdout"], result["stderr"])) or "it printed nothing"
            raise ReleaseError(f"`{' '.join(wanted.command)}` of {short(checked.digest)} failed:\n  {said}")
        return parse_plan(result["stdout"])
