"""Controller side of `release_look`: what the host must have and run, by the stack and the record."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.release.model import IMAGES_FACT
from infra.site.project import Owner, ProjectError, host_project, project_facts, project_texts
from infra.site.runtime import HostRuntime
from infra.site.secrets import SecretsError, open_resolver


class ActionModule(ProcedureAction, ActionBase):
    """Looks at a host once: its images, its project's directory, and what runs of its `project`.

    Sets the fact `icupa_release_images`. Returns `reasons`, why the site play would change what runs, and
    `ready`: whether all that must run is healthy. Values of secrets stay here: only hashes go to the host.
    """

    _requires_connection = True

    arguments = {  # noqa: RUF012
        "root": {"type": "path", "required": True},
        "unit": {"type": "str", "required": True},
        "owner": {"type": "dict", "required": True},
        "project": {"type": "dict", "required": True},
        "runtime": {"type": "dict", "required": True},
    }
    refusals = (ProjectError, SecretsError)

    def work(self, call: Call) -> dict[str, Any]:
        """Render what must be there, and have the module look; changes nothing."""
        raw, owner = call.arguments["project"], call.arguments["owner"]
        secretstore, record = call.outputs.secretstore, call.outputs.record
        resolve = open_resolver(secretstore, call.stack, record, project_texts(raw))
        runtime = HostRuntime.parse(call.arguments["runtime"])
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
        return {**result, "ansible_facts": {IMAGES_FACT: result["images"]}}
