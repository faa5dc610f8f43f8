"""Asks a host which containers have the values of secrets that are being rotated."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.procedures import lease
from infra.procedures.action import Call, ProcedureAction
from infra.rotation.issuers.consumers import metrics_check
from infra.rotation.plan import RotationError, misplaced
from infra.secretstore import SecretStoreError, open_store
from infra.services import agents
from infra.site.project import ProjectError, readers

_PATIENCE = 5
"""Seconds within which an old value must be refused."""


class ActionModule(ProcedureAction, ActionBase):
    """`secrets`: names; `project` as Compose calls it. Fails where a running container that reads one of them
    does not have the value that hosts are given, or has the other one, or any other container has that.

    Values are in the module's arguments only, which are not shown.
    """

    _requires_connection = True

    arguments: ClassVar[dict[str, Any]] = {
        "project": {"type": "str", "required": True},
        "secrets": {"type": "list", "elements": "str", "required": True},
    }
    refusals: ClassVar[tuple[type[Exception], ...]] = (SecretStoreError, RotationError, ProjectError)

    def work(self, call: Call) -> dict[str, Any]:
        """Ask, and judge."""
        names = call.arguments["secrets"]
        store = open_store(call.outputs.secretstore, call.stack, record=call.outputs.record)
        rotations = call.record.state().rotations
        wanted: dict[str, str] = {}
        unwanted: dict[str, str] = {}
        for name in names:
            staged, in_use = store.next(name), store.get(name)
            if staged is None:
                raise RotationError(f"no value of {name} is staged")
            pair = (staged.value, in_use) if rotations[name].hosts_get_new else (in_use, staged.value)
            wanted[name], unwanted[name] = pair
        result: dict[str, Any] = self._execute_module(
            module_name="secrets_in_use",
            module_args={
                "project": call.arguments["project"],
                "values": {
                    **{f"{name} wanted": value for name, value in wanted.items()},
                    **{f"{name} unwanted": value for name, value in unwanted.items()},
                },
            },
            task_vars=dict(call.variables),
        )
        if result.get("failed"):
            raise AnsibleActionFail(str(result.get("msg", "no message")), result=result)
        if agents.METRICS_TOKEN in names:
            self._served(call, wanted[agents.METRICS_TOKEN], unwanted[agents.METRICS_TOKEN])
        project = lease.plain(call.variables["icupa_project"])
        if wrong := misplaced(result["found"], {name: readers(project, name) for name in names}):
            raise RotationError("; ".join(wrong))
        return result

    def _served(self, call: Call, wanted: str, unwanted: str) -> None:
        """See over the wire that the service answers a scrape with one token, and not with the other."""
        slot = call.record.state().host(call.host).active_slot
        check = metrics_check(slot, wanted)
        refused = {**metrics_check(slot, unwanted), "status": 401}
        del refused["contains"]
        answers = self._execute_module(
            module_name="service_answers",
            module_args={
                "project": call.arguments["project"],
                "checks": [check, refused],
                "timeout": _PATIENCE,
            },
            task_vars=dict(call.variables),
        )
        if answers.get("failed"):
            raise AnsibleActionFail(str(answers.get("msg", "no message")), result=answers)
