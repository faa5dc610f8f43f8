"""Controller side only: plans a maintenance, and writes each step of it into the record (DEP-6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from infra.procedures import maintenance
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.maintenance import Act, Plan, Request, Step, clock
from infra.record import State, Window, process
from infra.record.model import now

FACT = "icupa_maintenance"


class ActionModule(ProcedureAction, ActionBase):
    """`state` plan, announced, on, off, step, complete or cancelled.

    plan: from `mode` or `at`, `short_notice`, `notice_hours` and `why`; sets the fact `icupa_maintenance`.
    Refuses before anything is touched. step: `step` of the window is over. All but plan need the lease.
    """

    arguments: ClassVar[dict[str, Any]] = {
        "state": {
            "type": "str",
            "required": True,
            "choices": ["plan", "announced", "on", "off", "step", "complete", "cancelled"],
        },
        "mode": {"type": "str"},
        "at": {"type": "str"},
        "why": {"type": "str"},
        "short_notice": {"type": "str"},
        "notice_hours": {"type": "float"},
        "step": {"type": "str", "choices": [str(step) for step in Step]},
    }
    constraints: ClassVar[dict[str, Any]] = {"required_if": [["state", "step", ["step"]]]}

    def work(self, call: Call) -> dict[str, Any]:
        """Do what `state` says."""
        given = call.arguments
        if given["state"] == "plan":
            return self._plan(call)
        plan = Plan.model_validate(call.variables["ansible_facts"][FACT])
        if call.check:
            call.did(_would(given["state"], given["step"], plan))
            return {"changed": True}
        before = call.record.state()
        after = self._write(call, plan)
        window = after.maintenance.window
        done = tuple(Step(step) for step in window.done) if window else plan.done
        return {
            "changed": before.maintenance != after.maintenance,
            "ansible_facts": {FACT: plan.model_copy(update={"done": done}).model_dump(mode="json")},
        }

    def _plan(self, call: Call) -> dict[str, Any]:
        names = ("mode", "at", "why", "short_notice", "notice_hours")
        request = Request.parse({name: call.arguments[name] for name in names})
        found = call.record.state().maintenance
        plan = maintenance.plan(request, found, now())
        if found.enabled and found.since is not None:
            call.did(f"maintenance was on already, since {clock(found.since)}: {found.message}")
        return {"ansible_facts": {FACT: plan.model_dump(mode="json")}, "msg": plan.says}

    def _write(self, call: Call, plan: Plan) -> State:
        """Change the record under the lease; return the state after it."""
        given, operation = call.arguments, call.operation
        by, why = process.operator(), operation.why

        def announced(state: State) -> State:
            if plan.at is None:
                raise AssertionError("only a planned maintenance is announced")
            if state.maintenance.window is not None:
                return state
            return state.with_window(
                Window(
                    at=plan.at,
                    announced_at=now(),
                    why=why,
                    by=by,
                    short_notice=given["short_notice"] or "",
                )
            )

        def turned_on(state: State) -> State:
            return state.with_maintenance(True, message=why, by=by)

        def turned_off(state: State) -> State:
            off, window = state.with_maintenance(False), state.maintenance.window
            return off.with_window(None) if plan.act is Act.OFF and window and window.done else off

        changes = {
            "announced": (announced, plan.says),
            "on": (turned_on, "recorded that maintenance is ON: users get 503 until it is turned off"),
            "off": (turned_off, "recorded that maintenance is off"),
            "step": (lambda state: state.with_window_step(given["step"]), ""),
            "complete": (State.with_window_completed, ""),
            "cancelled": (lambda state: state.with_window(None), plan.says),
        }
        change, said = changes[given["state"]]
        if given["step"] and given["state"] in ("on", "off") and plan.act is Act.WINDOW:
            change = _with_step(change, given["step"])
        details = {"step": given["step"]} if given["step"] else {}
        event = call.lease.update(f"maintenance.{given['state']}", change, why=why, details=details)
        if said:
            call.did(said)
        return event.state or call.record.state()


def _with_step(change: Callable[[State], State], step: str) -> Callable[[State], State]:
    """The change, and that a step of the window is over with it."""
    return lambda state: change(state).with_window_step(step)


def _would(state: str, step: str | None, plan: Plan) -> str:
    return {
        "announced": f"record that {plan.says}",
        "on": "turn maintenance on: users would get 503",
        "off": "turn maintenance off",
        "step": f"record that {step} is done",
        "complete": "record that the window is complete",
        "cancelled": f"record that {plan.says}",
    }[state]
