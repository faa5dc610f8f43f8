"""Controller side of `project_files`: renders a host's project and resolves its secrets.

The task's arguments hold references only. Values travel inside the module's payload (over the standard
input of the SSH connection), which is never logged, and are not part of any result.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible import constants
from ansible.plugins.action import ActionBase
from infra.procedures.facts import refuse_forged
from infra.procedures.operation import ProcedureError
from infra.site.project import (
    HostFile,
    HostProject,
    Owner,
    ProjectDirectory,
    ProjectError,
    host_project,
    project_facts,
    project_texts,
    registry_login,
)
from infra.site.runtime import HostRuntime
from infra.site.secrets import Resolve, SecretsError, open_resolver


def payload(files: list[HostFile]) -> str:
    """Contents as the module expects them."""
    return json.dumps({entry.path: base64.b64encode(entry.content.encode()).decode() for entry in files})


def described(files: list[HostFile]) -> list[dict[str, Any]]:
    """Files without their contents."""
    return [
        {
            "path": entry.path,
            "mode": entry.mode,
            "uid": entry.uid,
            "gid": entry.gid,
            "hidden": entry.hidden,
            "masked": None if entry.masked is None else list(entry.masked),
        }
        for entry in files
    ]


class ActionModule(ActionBase):
    """A whole `project` with its `runtime`, or `files` of a role's own, or the `registry_login`."""

    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, resolve, hand to the module."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        try:
            refuse_forged(variables)
        except ProcedureError as error:
            raise AnsibleActionFail(str(error)) from None
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "root": {"type": "path", "required": True},
                "name": {"type": "str", "required": True},
                "owner": {"type": "dict", "required": True},
                "root_mode": {"type": "str", "default": "0750"},
                "project": {"type": "dict"},
                "runtime": {"type": "dict"},
                "files": {"type": "list", "elements": "dict"},
                "registry_login": {"type": "list", "elements": "dict", "no_log": False},
                "validators": {"type": "list", "elements": "dict", "default": []},
                "docker_config": {"type": "path"},
                "fence": {"type": "int", "default": 0},
            },
            required_one_of=[["project", "files", "registry_login"]],
            mutually_exclusive=[["project", "files", "registry_login"]],
            required_by={"project": ["runtime"]},
        )
        if constants.config.get_config_value("DEFAULT_KEEP_REMOTE_FILES"):
            raise AnsibleActionFail("ANSIBLE_KEEP_REMOTE_FILES would leave secrets on the host: unset it")
        # Ansible's own kinds of text and mapping are no input for serializers.
        arguments = json.loads(json.dumps(arguments))
        owner = Owner(int(arguments["owner"]["uid"]), int(arguments["owner"]["gid"]))
        directories: list[ProjectDirectory] = []
        facts: dict[str, Any] = {}
        try:
            if arguments["project"] is not None:
                project = self._project(arguments, owner, variables)
                files, directories = project.files, project.directories
                facts = project_facts(project)
            elif arguments["files"] is not None:
                files = self._files(arguments["files"], owner, variables)
            else:
                files = self._login(arguments["registry_login"], owner, variables)
        except (ProjectError, SecretsError, ValueError) as error:
            raise AnsibleActionFail(str(error)) from None
        result: dict[str, Any] = self._execute_module(
            module_name="project_files",
            module_args={
                "root": arguments["root"],
                "root_mode": int(arguments["root_mode"], 8),
                "root_uid": owner.uid,
                "root_gid": owner.gid,
                "name": arguments["name"],
                "directories": [entry.model_dump() for entry in directories],
                "files": described(files),
                "payload": payload(files),
                "validators": arguments["validators"],
                "docker_config": arguments["docker_config"],
                "fence": arguments["fence"],
            },
            task_vars=variables,
        )
        result.update(facts)
        return result

    @staticmethod
    def _resolver(variables: dict[str, Any], texts: list[str]) -> Resolve:
        return open_resolver(
            variables["icupa_secretstore"], variables["icupa_stack"], variables["icupa_record"], texts
        )

    def _project(self, arguments: dict[str, Any], owner: Owner, variables: dict[str, Any]) -> HostProject:
        resolve = self._resolver(variables, project_texts(arguments["project"]))
        return host_project(arguments["project"], HostRuntime.parse(arguments["runtime"]), owner, resolve)

    def _files(self, files: list[dict[str, Any]], owner: Owner, variables: dict[str, Any]) -> list[HostFile]:
        resolve = self._resolver(variables, [entry["content"] for entry in files])
        return [
            HostFile(
                path=entry["path"],
                content=resolve(entry["content"]),
                mode=int(entry["mode"], 8),
                uid=int(entry.get("uid", owner.uid)),
                gid=int(entry.get("gid", owner.gid)),
                hidden=resolve(entry["content"]) != entry["content"],
            )
            for entry in files
        ]

    def _login(self, logins: list[dict[str, Any]], owner: Owner, variables: dict[str, Any]) -> list[HostFile]:
        resolve = self._resolver(variables, [str(value) for login in logins for value in login.values()])
        content = registry_login(
            {login["server"]: (resolve(login["username"]), resolve(login["password"])) for login in logins}
        )
        return [HostFile("config.json", content, 0o600, owner.uid, owner.gid, hidden=True)]
