"""Controller side of `release_images`: which images stay, under the lease; shows how far a pull is."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.release.model import IMAGES_FACT, ReleaseError, short
from infra.release.retention import kept


class ActionModule(ProcedureAction, ActionBase):
    """`state`: listed (default), present (`digest`, `docker_config`, `timeout`), pruned (`also` stays too).

    Sets the fact `icupa_release_images`: what the host has then.
    """

    _requires_connection = True

    arguments = {  # noqa: RUF012
        "state": {"type": "str", "choices": ["listed", "present", "pruned"], "default": "listed"},
        "digest": {"type": "str"},
        "also": {"type": "list", "elements": "str", "default": []},
        "docker_config": {"type": "path"},
        "timeout": {"type": "int", "default": 1800},
    }
    constraints = {"required_if": [["state", "present", ["digest", "docker_config"]]]}  # noqa: RUF012
    refusals = (ReleaseError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Have the module do it; more than once while a pull runs."""
        state = call.arguments["state"]
        arguments: dict[str, Any] = {"state": state, "repository": call.outputs.release.image}
        if state == "present":
            wanted = {name: call.arguments[name] for name in ("digest", "docker_config", "timeout")}
            result = self._pull(call, {**arguments, **wanted})
        elif state == "pruned":
            arguments["keep"] = kept(call.record.state(), call.arguments["also"])
            result = self._module(call, arguments, changes=True)
            self._tell(call, result)
        else:
            result = self._module(call, arguments, changes=False)
        return {**result, "ansible_facts": {IMAGES_FACT: result.get("images", [])}}

    def _pull(self, call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
        started = time.monotonic()
        changed = False
        while True:
            result = self._module(call, arguments, changes=True)
            changed = changed or bool(result["changed"])
            took = time.monotonic() - started
            if result["done"] or call.check:
                if changed:
                    would = "would pull" if call.check else f"pulled in {took:.0f} s:"
                    call.did(f"{call.host}: {would} {short(arguments['digest'])}")
                return {**result, "changed": changed}
            if took > arguments["timeout"]:
                raise ReleaseError(
                    f"{short(arguments['digest'])} was not pulled within {arguments['timeout']} s"
                )
            progress = result["progress"]
            call.say(
                f"pulling {short(arguments['digest'])}:"
                f" {progress['complete']} of {progress['layers']} layers, {took:.0f} s"
            )

    @staticmethod
    def _tell(call: Call, result: dict[str, Any]) -> None:
        verb = "would remove" if call.check else "removed"
        for digest in result["removed"]:
            call.did(f"{call.host}: {verb} the image of an old release, {short(digest)}")
        for digest in result["in_use"]:
            call.did(f"{call.host}: left {short(digest)}, a container was made of it")

    def _module(self, call: Call, arguments: dict[str, Any], *, changes: bool) -> dict[str, Any]:
        fence = call.lease.token if changes and not call.check else 0
        result: dict[str, Any] = self._execute_module(
            module_name="release_images", module_args={**arguments, "fence": fence}, task_vars=call.variables
        )
        if result.get("failed"):
            raise AnsibleActionFail(str(result.get("msg", "no message")), result=result)
        return result
