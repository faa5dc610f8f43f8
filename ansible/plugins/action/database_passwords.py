"""Controller side of `database_passwords`: which values hosts are given, and which others are valid."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.procedures import lease
from infra.procedures.action import Call, ProcedureAction
from infra.record import NotBootstrappedError, Rotation
from infra.rotation.databases import needed, passwords, shared
from infra.secrets.references import reference
from infra.secretstore import SecretStoreError, SopsStore, open_store
from infra.site.secrets import SecretsError, open_resolver


class ActionModule(ProcedureAction, ActionBase):
    """`state` accepted: databases of the host that run accept the values that hosts are given, others stay
    valid. alone: no others are valid, but those of a rotation that is under way; `ending`: those neither.

    Values are in the module's arguments only, which are not shown. `project` as Compose calls it.
    """

    _requires_connection = True

    arguments: ClassVar[dict[str, Any]] = {
        "project": {"type": "str", "required": True},
        "state": {"type": "str", "required": True, "choices": ["accepted", "alone"]},
        "ending": {"type": "bool", "default": False},
        "fence": {"type": "int", "default": 0},
    }
    refusals: ClassVar[tuple[type[Exception], ...]] = (SecretStoreError, SecretsError)

    def work(self, call: Call) -> dict[str, Any]:
        """Tell the host."""
        given = call.arguments
        project = lease.plain(call.variables["icupa_project"])
        if not (names := needed(project)):
            return {}
        rotations = _rotations(call)
        keep = None if given["state"] == "accepted" else shared(rotations, ending=given["ending"])
        references = [reference(name) for name in names]
        resolve = open_resolver(call.outputs.secretstore, call.stack, call.outputs.record, references)
        store = open_store(call.outputs.secretstore, call.stack, record=call.outputs.record)
        wanted = passwords(project, resolve, {name: _known(store, name) for name in names}, keep)
        result: dict[str, Any] = self._execute_module(
            module_name="database_passwords",
            module_args={"project": given["project"], "fence": given["fence"], **wanted},
            task_vars=dict(call.variables),
        )
        if result.get("failed"):
            raise AnsibleActionFail(str(result.get("msg", "no message")), result=result)
        if not call.check:
            for line in result["did"]:
                call.did(f"{call.host}: {line}")
        return result


def _rotations(call: Call) -> dict[str, Rotation]:
    try:
        return call.record.state().rotations
    except NotBootstrappedError:
        return {}


def _known(store: SopsStore, name: str) -> list[str]:
    others = (store.next(name), store.previous(name))
    return [store.get(name), *(other.value for other in others if other)]
