"""Controller side only: how a deploy or a rollback ended, by the record and by what hosts said."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures import deploy, rollout
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.lease import plain
from infra.procedures.operation import has_changed
from infra.record import Result
from infra.release.model import short

OUTCOME = "icupa_outcome"
PLAN = "icupa_plan"
NOT_UNDONE = "icupa_not_undone"
LOST = "icupa_lost"


class ActionModule(ProcedureAction, ActionBase):
    """Sets the fact `icupa_outcome` {result, message, next, nothing, facts, details}.

    Reads the facts `icupa_plan`, and of each host `icupa_not_undone` and `icupa_lost`. `flags` were to be
    turned off: the record says which of them are, `flags_problem` why others are not. `nothing`: no host and
    no record was changed, not by a run of this operation either that was killed before it could tell.
    """

    arguments = {  # noqa: RUF012
        "release": {"type": "dict", "required": True},
        "flags": {"type": "list", "elements": "str", "default": []},
        "flags_problem": {"type": "str", "default": ""},
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Judge; changes nothing."""
        release, operation, failure = call.arguments["release"], call.operation, call.failure
        flags, problem = call.arguments["flags"], call.arguments["flags_problem"]
        off = [] if call.check else _turned_off(call, flags)
        if failure is None and not call.check and off != flags:
            problem = problem or "the host that has them did not answer"
        plan = plain(call.variables["hostvars"]["localhost"][PLAN])
        verdict = deploy.Verdict(Result.OK, "") if failure is None else self._of_failure(call, plan)
        if problem and verdict.result is Result.OK:
            verdict = deploy.Verdict(
                Result.UNCERTAIN,
                f"{short(release['digest'])} serves, but the flags"
                f" {', '.join(flag for flag in flags if flag not in off)} were not turned off: {problem}",
                "turn them off by hand (docs/procedures/rollback.md), or run the same command again",
            )
        evidence = [piece.key for piece in failure.evidence] if failure is not None else []
        facts = {
            "environment": call.outputs.environment,
            "release": release["digest"],
            "commit": release["git_sha"],
            "before": plan["before"],
            "image": release["reference"],
            "why": operation.why,
            "flags turned off": ", ".join(off),
            "took": f"{operation.took():.0f} s",
            "problem": verdict.message,
            "evidence": ", ".join(evidence),
        }
        outcome = {
            "result": verdict.result.value,
            "message": verdict.message,
            "next": verdict.next,
            "nothing": failure is None
            and bool(plan["nothing"])
            and not flags
            and not has_changed(call.record.events(), operation),
            "facts": {name: text for name, text in facts.items() if text},
            "details": {"digest": release["digest"], "before": plan["before"], "flags": off},
        }
        return {"ansible_facts": {OUTCOME: outcome}}

    @staticmethod
    def _of_failure(call: Call, plan: dict[str, Any]) -> deploy.Verdict:
        failure, known = call.failure, call.variables["hostvars"]
        if failure is None:
            raise AssertionError("nothing failed")
        hosts = list(call.variables["groups"]["machines"])
        return deploy.verdict(
            call.record.state(),
            failure,
            moved=bool(plan["undo"]) and not plan["nothing"],
            not_undone={name: said for name in hosts if (said := str(known[name].get(NOT_UNDONE) or ""))},
            lost=[name for name in hosts if known[name].get(LOST)],
        )


def _turned_off(call: Call, flags: list[str]) -> list[str]:
    """Those of the flags that this run has turned off, by the record."""
    off = {
        event.details.get("flag")
        for event in call.record.events()
        if event.token == call.operation.token
        and event.action == rollout.ACTION
        and not event.details.get("enabled")
    }
    return [flag for flag in flags if flag in off]
