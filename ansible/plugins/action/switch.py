"""Controller side only: which switches a command means, record and functions' secrets, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible import context
from ansible.plugins.action import ActionBase
from infra.procedures import lease, switch
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.functions import management
from infra.procedures.switch import Place, Wanted
from infra.record import Switch
from infra.site.project import switches_file
from infra.site.runtime import RuntimeStateError, read_runtimes
from infra.site.secrets import SecretsError
from infra.supabase import SupabaseError

FUNCTIONS = "icupa_switch_functions"
"""Fact on the controller: what is wrong with the functions' secrets, by project."""

SERVED = "icupa_switch_served"
"""Variable of a host: what is wrong with the switches there; set by its tasks, absent where it was lost."""

_LOST = "unreachable"


class ActionModule(ProcedureAction, ActionBase):
    """`state` plan, record, functions or outcome; all but plan take the plan's `switches`.

    plan: from `switch` and `to`, or `set`, or `preset`; refuses before anything is touched. record: under the
    lease; returns `runtimes` and `file`, what hosts must run and have from now on. functions: Supabase's
    secrets, verified by their digests. outcome: `result` and `message` of what hosts and functions say.
    """

    arguments: ClassVar[dict[str, Any]] = {
        "state": {
            "type": "str",
            "required": True,
            "choices": ["plan", "record", "functions", "outcome"],
        },
        "switch": {"type": "str"},
        "to": {"type": "raw"},
        "set": {"type": "raw"},
        "preset": {"type": "str"},
        "switches": {"type": "dict"},
    }
    constraints: ClassVar[dict[str, Any]] = {
        "required_if": [
            ["state", "record", ["switches"]],
            ["state", "functions", ["switches"]],
            ["state", "outcome", ["switches"]],
        ]
    }
    refusals = (SecretsError, RuntimeStateError)

    def work(self, call: Call) -> dict[str, Any]:
        """Do what `state` says."""
        if call.arguments["state"] == "plan":
            return self._plan(call)
        wanted = {Switch(name): bool(on) for name, on in call.arguments["switches"].items()}
        match call.arguments["state"]:
            case "record":
                return self._record(call, wanted)
            case "functions":
                return self._functions(call, wanted)
            case _:
                return self._outcome(call, wanted)

    @staticmethod
    def _plan(call: Call) -> dict[str, Any]:
        given = call.arguments
        wanted = switch.requested(
            switch=given["switch"],
            to=given["to"],
            given=given["set"],
            preset=given["preset"],
            raw=_on_the_command_line("set"),
        )
        before = call.record.state().switches
        return {
            "switches": {each.value: on for each, on in wanted.items()},
            "said": switch.said(wanted),
            "changing": [each.value for each in switch.changing(before, wanted)],
        }

    @staticmethod
    def _record(call: Call, wanted: Wanted) -> dict[str, Any]:
        before = call.record.state()
        changing = switch.changing(before.switches, wanted)
        kept = {each: on for each, on in wanted.items() if each not in changing}
        if call.check:
            state = before.with_switches(wanted)
        else:
            event = call.lease.update(
                "switch.set",
                lambda found: found.with_switches(wanted),
                why=call.operation.why,
                details={"switches": {each.value: on for each, on in wanted.items()}},
            )
            state = event.state or call.record.state()
        for some, what in ((changing, "recorded: "), (kept, "recorded already: ")):
            if some:
                call.did(f"{'' if call.check else what}{switch.said(some)}")
        switches = {each.value: str(on).lower() for each, on in state.switches.items()}
        file = switches_file(switches)
        return {
            "changed": bool(changing),
            "runtimes": _runtimes(call, switches),
            "file": {
                "path": file.path,
                "content": file.content,
                "mode": f"{file.mode:04o}",
                "uid": file.uid,
                "gid": file.gid,
            },
        }

    def _functions(self, call: Call, wanted: Wanted) -> dict[str, Any]:
        problems: dict[str, str] = {}
        changed = False
        secrets = switch.of_functions(wanted)
        if secrets:
            for project in call.outputs.settings.supabase.projects:
                try:
                    done = self._project(call, project, secrets)
                    changed = changed or bool(done)
                    problems[project] = ""
                except (SupabaseError, SecretsError) as error:
                    problems[project] = str(error).splitlines()[0]
        return {"changed": changed, "ansible_facts": {FUNCTIONS: problems}}

    @staticmethod
    def _project(call: Call, project: str, secrets: Mapping[str, str]) -> list[str]:
        with management(call.outputs, call.stack) as api:
            if call.check:
                differing = api.differing(project, secrets)
                if differing:
                    call.did(f"set in the functions of {project}: {', '.join(differing)}")
                return differing
            # Right before the change: it raises where another operation has the lease.
            _ = call.lease
            done = api.ensure(project, secrets)
            call.did(
                f"functions of {project}: {', '.join(done)} set, read back"
                if done
                else f"functions of {project} had it already"
            )
            return done

    @staticmethod
    def _outcome(call: Call, wanted: Wanted) -> dict[str, Any]:
        everywhere = call.variables["hostvars"]
        places = []
        for host in call.outputs.hosts:
            found = everywhere[host.name].get(SERVED)
            places.append(Place(host.name, _LOST if found is None else str(found)))
        functions = call.variables.get("ansible_facts", {}).get(FUNCTIONS)
        if functions is None and switch.of_functions(wanted):
            functions = dict.fromkeys(call.outputs.settings.supabase.projects, "not tried")
        places += [
            Place(f"the functions of {project}", str(problem))
            for project, problem in lease.plain(functions or {}).items()
        ]
        found = switch.outcome(wanted, places, check=call.check)
        return {
            "result": found.result.value,
            "message": found.message,
            "places": {place.name: place.problem or "in effect" for place in places},
        }


def _on_the_command_line(name: str) -> str:
    """An extra variable as it was typed, spaces and all; empty where it was not given as `-e name=…`."""
    typed = [str(given) for given in context.CLIARGS.get("extra_vars") or ()]
    return next((given.partition("=")[2] for given in typed if given.startswith(f"{name}=")), "")


def _runtimes(call: Call, switches: Mapping[str, str]) -> dict[str, Any]:
    """What each host runs, with these switches: in check mode the record does not have them yet."""
    return {
        name: runtime.model_copy(update={"switches": dict(switches)}).model_dump(mode="json")
        for name, runtime in read_runtimes(call.outputs).items()
    }
