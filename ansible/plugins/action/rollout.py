"""Controller side of a flag's rollout: what was asked, the plan, the phases under their gate (DEP-3)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ansible.errors import AnsibleError

from ansible.plugins.action import ActionBase
from infra.procedures import rollout
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.gate import Figures, GateError, Judgement, Verdict, figures, judge_all, queries
from infra.procedures.operation import ProcedureError
from infra.procedures.rollout import EVERYBODY, GROUPS, Kind, Phase, Plan, Seen, Step, Watch
from infra.procedures.wording import kept
from infra.record import Result
from infra.record.model import now
from infra.release.model import UNKNOWN, Checked

FACT = "icupa_rollout"
_ON = "on for everybody"


class ActionModule(ProcedureAction, ActionBase):
    """`state` says which step; those that ask Prometheus are delegated to the host that serves.

    asked: `flag`, `window` (seconds; else the stack's). Sets the fact `icupa_rollout` with both and the
    `host` that serves, its `slot` and the `release` in it, whose commands read and write the flag.
    planned: `table` (lines of the release's `flags list`). Adds `groups`, the phases that are left, and
    `withdraw`: the flag must be turned off for everybody; `news`: there is something to announce.
    opened, held: `group`; the second waits for the window and judges it. stopped: `message` says what failed.
    withdrawn: the flag is off now.
    """

    arguments = {  # noqa: RUF012
        "state": {
            "type": "str",
            "required": True,
            "choices": ["asked", "planned", "opened", "held", "stopped", "withdrawn"],
        },
        "flag": {"type": "raw"},
        "window": {"type": "raw"},
        "table": {"type": "list", "elements": "str"},
        "group": {"type": "str", "choices": list(GROUPS)},
        "message": {"type": "str"},
    }
    constraints = {  # noqa: RUF012
        "required_if": [
            ["state", "asked", ["flag"]],
            ["state", "planned", ["table"]],
            ["state", "opened", ["group"]],
            ["state", "held", ["group"]],
            ["state", "stopped", ["message"]],
        ]
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Take one step."""
        match call.arguments["state"]:
            case "asked":
                return _asked(call)
            case "planned":
                return self._planned(call)
            case "opened":
                return _opened(call)
            case "held":
                return self._held(call)
            case "stopped":
                return _stopped(call)
            case _:
                return _withdrawn(call)

    def _planned(self, call: Call) -> dict[str, Any]:
        fact = _fact(call)
        table = rollout.flag_table(fact["flag"], call.arguments["table"])
        plan = rollout.plan(
            fact["flag"], rollout.read_progress(call.record, fact["flag"]), table, fact["window"]
        )
        for line in _described(call, plan, table):
            (call.did if call.check else call.say)(line)
        if call.check:
            seen = self._look(call, plan.flag, GROUPS, plan.window, GROUPS[-1])
            for group in GROUPS if not seen.problem else ():
                figures_now = seen.figures[group].line(call.outputs.settings.rollout)
                call.did(f"{group}, last {plan.window} s: {figures_now}")
            if seen.problem:
                call.did(f"now: {seen.problem}")
        return _facts(
            call,
            groups=list(plan.groups),
            withdraw=plan.kind is Kind.WITHDRAW,
            news=plan.kind is not Kind.NOTHING,
            **_outcome(plan.flag, plan.kind, plan.stopped),
        )

    def _held(self, call: Call) -> dict[str, Any]:
        group, fact = call.arguments["group"], _fact(call)
        if call.check:
            return {}
        settings = call.outputs.settings
        scrape = settings.metrics.scrape_seconds
        flag = fact["flag"]
        found = rollout.read_progress(call.record, flag)
        running = found.since if found.current == group else None
        window = max(fact["window"], found.window) if running else fact["window"]
        begins = running or _log(call, _phase(flag, group, window, Step.HOLDING))
        watch = Watch(begins, window, scrape)
        watched = (*found.passed, group)

        def look(seconds: float) -> Seen:
            _ = call.lease
            return self._look(call, flag, watched, seconds, group)

        def say(at: datetime, seen: Seen | None) -> None:
            left = max(0.0, (watch.ends - at).total_seconds())
            if seen is None:
                said = "too early for figures"
            elif seen.problem:
                said = seen.problem
            else:
                said = seen.figures[group].line(settings.rollout)
            call.say(f"{group}: {left:.0f} s of {window} s left; {said}")

        seen = rollout.hold(watch, look, scrape_seconds=scrape, say=say, clock=now, pause=time.sleep)
        verdict = seen.judgement.verdict
        _log(
            call,
            _phase(
                flag,
                group,
                window,
                Step.JUDGED,
                verdict=verdict,
                reasons=seen.judgement.reasons,
                figures=seen.figures,
            ),
        )
        shown = seen.figures[group].line(settings.rollout) if group in seen.figures else seen.problem
        call.did(f"{group}: held {window} s, {verdict}: {shown}")
        if verdict is Verdict.GO:
            return _facts(call, groups=fact["groups"][1:])
        stopped = _phase(flag, group, window, Step.JUDGED, verdict=verdict, reasons=seen.judgement.reasons)
        return _facts(call, groups=[], withdraw=True, **_outcome(flag, Kind.WITHDRAW, stopped))

    def _look(self, call: Call, flag: str, groups: tuple[str, ...], seconds: float, group: str) -> Seen:
        """Ask the Prometheus of the host that serves; what goes wrong is a look that saw nothing."""
        asked = queries(flag, seconds)
        try:
            answer: Mapping[str, Any] = self._execute_module(
                module_name="prometheus_query",
                module_args={"queries": asked},
                task_vars=call.variables,
            )
            if answer.get("failed") or "answers" not in answer:
                return Seen.unanswered(str(answer.get("msg", "the host did not answer")))
            found: dict[str, Figures] = figures(answer["answers"], groups, seconds)
        except (AnsibleError, GateError) as error:
            return Seen.unanswered(f"Prometheus can't be asked: {error}")
        settings = call.outputs.settings
        said: Judgement = judge_all(found, group, settings.rollout, settings.metrics.scrape_seconds)
        return Seen(said, found)


def _asked(call: Call) -> dict[str, Any]:
    settings, state = call.outputs.settings, call.record.state()
    host = state.host(state.active_host)
    current = state.release
    running = Checked(
        image=current.image,
        digest=host.digest,
        git_sha=current.git_sha if host.digest == current.digest else UNKNOWN,
        schema_revision=None,
        verified="record",
        local=True,
    )
    return _facts(
        call,
        flag=rollout.check_flag(call.arguments["flag"]),
        window=rollout.check_window(
            call.arguments["window"], settings.rollout, settings.metrics.scrape_seconds
        ),
        host=state.active_host,
        slot=host.active_slot.value,
        release=running.model_dump(),
        groups=[],
        withdraw=False,
    )


def _opened(call: Call) -> dict[str, Any]:
    group, fact = call.arguments["group"], _fact(call)
    found = rollout.read_progress(call.record, fact["flag"])
    if not call.check and not found.is_open(group):
        _log(call, _phase(fact["flag"], group, fact["window"], Step.OPENED))
    return {}


def _stopped(call: Call) -> dict[str, Any]:
    """Something failed under way: no verdict, so no go."""
    message, fact = kept(call.arguments["message"], call.redact), _fact(call)
    flag = fact["flag"]
    found = rollout.read_progress(call.record, flag)
    group = found.current or next((each for each in GROUPS if each not in found.passed), GROUPS[-1])
    stopped = found.stopped or _phase(
        flag, group, fact["window"], Step.JUDGED, verdict=Verdict.FAILED, reasons=(message,)
    )
    if not call.check and found.stopped is None:
        _log(call, stopped)
    return _facts(call, groups=[], withdraw=True, **_outcome(flag, Kind.WITHDRAW, stopped))


def _withdrawn(call: Call) -> dict[str, Any]:
    fact = _fact(call)
    if not call.check:
        _log(call, _phase(fact["flag"], EVERYBODY, fact["window"], Step.OFF))
        call.did(f"{fact['flag']} is off for everybody")
    return {}


def _log(call: Call, phase: Phase) -> datetime:
    """Write a phase's event under the lease; its time."""
    details = phase.model_dump(mode="json")
    return call.lease.log(
        rollout.ACTION, result=phase.result, why="; ".join(phase.reasons), details=details
    ).at


def _phase(flag: str, group: str, window: int, step: Step, **fields: Any) -> Phase:
    return Phase(flag=flag, group=group, enabled=step is not Step.OFF, window=window, step=step, **fields)


def _outcome(flag: str, kind: Kind, stopped: Phase | None) -> dict[str, str]:
    """How the operation ends, where nothing else happens from here on."""
    if stopped is not None:
        why = "; ".join(stopped.reasons)
        return {
            "result": Result.ROLLED_BACK.value,
            "message": f"{flag} is off for everybody: {stopped.verdict} in phase {stopped.group}: {why}",
        }
    already = " already: there is nothing to do" if kind is Kind.NOTHING else ""
    return {"result": Result.OK.value, "message": f"{flag} is {_ON}{already}"}


def _described(call: Call, plan: Plan, table: Mapping[str, bool]) -> list[str]:
    """The plan, for people."""
    limits = call.outputs.settings.rollout
    on = ", ".join(group for group in GROUPS if table.get(group)) or "nobody"
    lines = [f"{plan.flag} is on for {on}"]
    if plan.why:
        lines.append(plan.why)
    match plan.kind:
        case Kind.WITHDRAW:
            lines.append("turn it off for everybody")
        case Kind.FINISH | Kind.NOTHING:
            lines.append("every phase is over")
    for group in plan.groups:
        began = plan.begins(group)
        since = f", since {began:%H:%M:%S} UTC" if began else ""
        lines.append(
            f"{group}: on, held for {plan.window_of(group)} s{since}; goes on with at least"
            f" {limits.minimum_turns} turns, p95 at most {limits.p95_seconds:g} s, errors at most"
            f" {limits.error_rate:.2%}, guardrails at most {limits.guardrail_rate:.2%}"
        )
    return lines


def _fact(call: Call) -> dict[str, Any]:
    hosts = call.variables["hostvars"]
    found = hosts["localhost"].get("ansible_facts", {}).get(FACT) or {}
    if not found:
        raise ProcedureError("nothing was asked yet: the playbook must begin with rollout: {state: asked}")
    return dict(found)


def _facts(call: Call, **changes: Any) -> dict[str, Any]:
    known = call.variables["hostvars"]["localhost"].get("ansible_facts", {}).get(FACT) or {}
    return {"ansible_facts": {FACT: {**known, **changes}}}
