"""Controller side of `release_command`: which command, with which image and secrets; fails where it does."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.wording import redacted
from infra.record import HostState
from infra.release.commands import Name, one_off, smoke_environment, smoke_token, summary
from infra.release.model import UNKNOWN, Checked, ReleaseError
from infra.services.model import Slot


class ActionModule(ProcedureAction, ActionBase):
    """`command` is a key of `icupa:commands`; `arguments` follow it.

    Unless said otherwise it runs as the release, and with the definition of the slot, that serves on the
    host. `release` is another one, as `release_check` returned it; `slot` is also the one that smoke tests.
    `root` is the project's directory on the host, `timeout` in seconds. Returns `rc`, `stdout`, `stderr`,
    `timed_out` and `seconds`, also where it failed; `ran` is false where a dry run did not run it.
    """

    _requires_connection = True

    arguments = {  # noqa: RUF012
        "command": {"type": "str", "required": True, "choices": [name.value for name in Name]},
        "arguments": {"type": "list", "elements": "str", "default": []},
        "release": {"type": "dict"},
        "slot": {"type": "str", "choices": [slot.value for slot in Slot]},
        "root": {"type": "path"},
        "docker_config": {"type": "path"},
        "timeout": {"type": "float", "default": 300.0},
    }
    refusals = (ReleaseError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Run it on the host, which is that of `delegate_to` where there is one."""
        name, host = Name(call.arguments["command"]), str(self._task.delegate_to or call.host)
        state = call.record.state()
        serving = state.host(host)
        slot = Slot(call.arguments["slot"] or serving.active_slot)
        given = call.arguments["release"]
        checked = Checked.parse(given) if given else running(call, serving)
        own: dict[str, dict[str, str]] = {}
        if name is Name.SMOKE and not call.check:
            token = smoke_token(call.outputs, call.stack)
            told = smoke_environment(slot, checked, state.runtime(host)["switches"])
            own = {"environment": told, "secrets": {"SMOKE_TOKEN": token}}
        commands = call.outputs.settings.commands
        wanted = one_off(
            name, commands, slot, checked.reference, arguments=call.arguments["arguments"], **own
        )
        fence = 0 if wanted.read_only or call.check else call.lease.token
        root = call.arguments["root"] or str(call.variables["hostvars"][host]["agents_stack_root"])
        where = (root, call.arguments["docker_config"], call.arguments["timeout"])
        result = self._execute_module(
            module_name="release_command", module_args=wanted.module(*where, fence), task_vars=call.variables
        )
        if result.get("failed"):
            raise AnsibleActionFail(str(result.get("msg", "no message")), result=result)
        said = " ".join(wanted.command)
        if not result["ran"]:
            why = "" if result.get("present") else " (its image is not on the host yet)"
            call.did(f"{host}: would run `{said}` of the release{why}")
            return dict(result)
        if result["timed_out"] or result["rc"] != 0:
            for stream in ("stdout", "stderr", "stdout_lines", "stderr_lines"):
                if stream in result:
                    result[stream] = redacted(result[stream], call.redact)
            shown = summary(result["stdout"], result["stderr"])
            ended = (
                f"did not end within {call.arguments['timeout']:.0f} s"
                if result["timed_out"]
                else f"failed with exit status {result['rc']}"
            )
            message = "\n  ".join([f"`{said}` of the release {ended}:", *shown])
            return {**result, "failed": True, "msg": message}
        if not wanted.read_only:
            call.did(f"{host}: ran `{said}` of the release in {result['seconds']:.1f} s")
        return dict(result)


def running(call: Call, host: HostState) -> Checked:
    """The release that serves on a host, as the record knows it: it was verified before it was put there."""
    state = call.record.state()
    known = {release.digest: release for release in (state.release, *state.previous_releases)}
    release = known.get(host.digest)
    return Checked(
        image=state.release.image,
        digest=host.digest,
        git_sha=release.git_sha if release else UNKNOWN,
        schema_revision=None,
        verified="record",
        local=True,
    )
