"""Controller side of `release_look`: refuses to move a host that is not what stack and record say."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.procedures import deploy
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.operation import ProcedureError
from infra.record import State
from infra.release.model import IMAGES_FACT
from infra.site.project import Owner, ProjectError, host_project, project_facts, project_texts
from infra.site.runtime import HostRuntime
from infra.site.secrets import SecretsError, open_resolver


class ActionModule(ProcedureAction, ActionBase):
    """Looks at a host once: its images, its project's directory, and what runs of its `project`.

    Judged by `infra.procedures.deploy.not_ready`. Sets the facts `icupa_release_images`, and `icupa_runtime`
    to what the record says now that nobody else changes it. Returns `ready`: whether all that must run is
    healthy; of a host that is moved all the same it may not be. Values of secrets stay here: only hashes go
    to the host.
    """

    _requires_connection = True

    arguments = {  # noqa: RUF012
        "root": {"type": "path", "required": True},
        "unit": {"type": "str", "required": True},
        "owner": {"type": "dict", "required": True},
        "project": {"type": "dict", "required": True},
        "accept_unhealthy": {"type": "bool", "default": False},
    }
    refusals = (ProjectError, SecretsError)

    def work(self, call: Call) -> dict[str, Any]:
        """Render what must be there, have the module look, and judge; changes nothing."""
        state = call.record.state()
        runtime = HostRuntime.parse(state.runtime(call.host))
        found = self._look(call, runtime)
        accept = call.arguments["accept_unhealthy"]
        wrong = deploy.not_ready(found["reasons"], runtime.active_slot, accept_unhealthy=accept)
        if wrong:
            raise ProcedureError(refusal(call.host, state, wrong))
        facts = {IMAGES_FACT: found["images"], "icupa_runtime": runtime.model_dump(mode="json")}
        return {"ready": found["ready"], "ansible_facts": facts}

    def _look(self, call: Call, runtime: HostRuntime) -> dict[str, Any]:
        raw, owner = call.arguments["project"], call.arguments["owner"]
        secretstore, record = call.outputs.secretstore, call.outputs.record
        resolve = open_resolver(secretstore, call.stack, record, project_texts(raw))
        project = host_project(raw, runtime, Owner(int(owner["uid"]), int(owner["gid"])), resolve)
        facts = project_facts(project)
        result: dict[str, Any] = self._execute_module(
            module_name="release_look",
            module_args={
                "repository": call.outputs.release.image,
                "project": facts["project_name"],
                "unit": call.arguments["unit"],
                "root": call.arguments["root"],
                "directories": [entry.path for entry in project.directories],
                "files": [entry.path for entry in project.files],
                "services": facts["services"],
                "idle": facts["idle"],
            },
            task_vars=call.variables,
        )
        if result.get("failed"):
            raise AnsibleActionFail(str(result.get("msg", "no message")), result=result)
        return result


def refusal(host: str, state: State, wrong: list[str]) -> str:
    """What is told of a host that is not as it must be, and what to do."""
    if rotating := [name for name, rotation in state.rotations.items() if rotation.offered]:
        return (
            f"{host} is in the middle of a rotation that was not ended: end it first,"
            f" rotate.yml -e secret={','.join(rotating)}"
        )
    return (
        f"{host} is not what stack and record say: {'; '.join(wrong)}. Run the site play first;"
        " where the release itself is ill, roll back, or say -e accept_unhealthy=true to replace it"
    )
