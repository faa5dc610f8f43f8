"""Controller side only: begins an operation with the lease, remembers its first failure, ends it."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from infra.notify.announce import resume
from infra.procedures import heartbeat, lease, operation
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.operation import CHECK_TOKEN, Failure, Operation, ProcedureError
from infra.procedures.wording import kept, redacted
from infra.record import NotBootstrappedError, Result
from infra.record.model import now

_SAY_AGAIN = 5.0


class ActionModule(ProcedureAction, ActionBase):
    """`state` begin, fail or end. `why`, `wait` and `take_from` are extra variables of every procedure.

    begin: `operation` (name), `parameters` (what makes it this operation and no other), `take_over` (from
    whomever a dead lease was), `preempt` (from whomever holds it). Sets the fact `icupa_operation`.
    fail: `step`, `message`, `evidence` (name -> text or document). All are kept; the first is the fact
    `icupa_failure`.
    end: `result`, `message`, `details`, `next` (what the operator does now).
    """

    arguments = {  # noqa: RUF012
        "state": {"type": "str", "required": True, "choices": ["begin", "fail", "end"]},
        "operation": {"type": "str"},
        "parameters": {"type": "dict", "default": {}},
        "why": {"type": "str"},
        "wait": {"type": "float"},
        "take_from": {"type": "str"},
        "take_over": {"type": "bool", "default": False},
        "preempt": {"type": "bool", "default": False},
        "step": {"type": "str"},
        "message": {"type": "str", "default": ""},
        "evidence": {"type": "dict", "default": {}},
        "result": {"type": "str", "choices": [each.value for each in Result if each is not Result.STARTED]},
        "details": {"type": "dict", "default": {}},
        "next": {"type": "str", "default": ""},
    }
    constraints = {  # noqa: RUF012
        "required_if": [
            ["state", "begin", ["operation"]],
            ["state", "fail", ["step", "message"]],
            ["state", "end", ["result"]],
        ]
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Do what `state` says."""
        match call.arguments["state"]:
            case "begin":
                return self._begin(call)
            case "fail":
                return self._fail(call)
            case _:
                return self._end(call)

    def _begin(self, call: Call) -> dict[str, Any]:
        name, parameters = call.arguments["operation"], call.arguments["parameters"]
        why = str(_extra(call, "why") or "")
        if call.check:
            _warn_of_holder(call)
            began = Operation(
                name=name,
                id=operation.operation_id(name, call.stack, parameters),
                token=CHECK_TOKEN,
                started_at=now(),
                why=why,
            )
            return {"ansible_facts": _facts(began, None), "check": True}
        controller = lease.controller_pid()
        began = operation.begin(
            call.record,
            name,
            stack=call.stack,
            parameters=parameters,
            pid=controller,
            why=why,
            wait=_seconds(_extra(call, "wait")),
            take_from=str(_extra(call, "take_from") or "") or None,
            take_over=call.arguments["take_over"],
            preempt=call.arguments["preempt"],
            waiting=_Waiting(call),
        )
        config = lease.plain(call.variables["icupa_record"])
        try:
            heartbeat.start(config, call.stack, began.token, controller)
        except ProcedureError as error:
            operation.end(call.record, began, Result.FAILED, str(error), {})
            raise
        resume(call.stack, call.record.store)
        # The record changed; hosts did not. Whoever reads the recap counts hosts.
        secretstore = lease.plain(call.variables["icupa_secretstore"])
        return {
            "ansible_facts": _facts(began, None),
            "record": config,
            "secretstore": secretstore,
            "stack": call.stack,
        }

    def _fail(self, call: Call) -> dict[str, Any]:
        step, message = call.arguments["step"], call.arguments["message"]
        if call.operation.check:
            failure = Failure(step=step, message=message, at=now())
        else:
            redact = call.redact
            message = kept(message, redact)
            pieces = {
                name: redact(_text(piece)).encode() for name, piece in call.arguments["evidence"].items()
            }
            failure = operation.fail(call.record, call.operation, step, message, pieces)
        call.did(f"failed at {step}: {message}")
        for piece in failure.evidence:
            call.did(f"saved evidence: {piece.key}")
        first = call.failure or failure
        return {"ansible_facts": _facts(call.operation, first), "first": first is failure}

    def _end(self, call: Call) -> dict[str, Any]:
        wanted, message = Result(call.arguments["result"]), call.arguments["message"]
        result, details = wanted, call.arguments["details"]
        if not call.operation.check:
            if wanted is not Result.OK:
                redact = call.redact
                message = kept(message, redact)
                # The digest is ours: it must stand also where no secret can be read, and so no text be kept.
                known = {name: details[name] for name in ("digest",) if name in details}
                details = {**redacted(details, redact), **known}
            result = operation.end(call.record, call.operation, wanted, message, details)
        if result is not wanted:
            message = f"the lease was lost before the end, which would have been {wanted}. {message}".strip()
        return {"result": result.value, "message": message, "next": call.arguments["next"]}


class _Waiting:
    """Says what is waited for: at once, when it is another holder, and every few seconds."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._said = ""
        self._at = now()

    def __call__(self, reason: str) -> None:
        holder = reason.partition(";")[0]
        waited = (now() - self._at).total_seconds()
        if holder != self._said:
            self._said, self._at = holder, now()
        elif waited < _SAY_AGAIN:
            return
        else:
            self._at = now()
        self._call.say(f"waiting: {reason}")


def _extra(call: Call, name: str) -> Any:
    """An argument, else the extra variable of the same name."""
    given = call.arguments[name]
    return given if given is not None else call.variables.get(name)


def _seconds(given: Any) -> float:
    try:
        seconds = float(given or 0)
    except ValueError:
        raise ProcedureError(f"wait must be a number of seconds, got {given!r}") from None
    if not 0 <= seconds < float("inf"):
        raise ProcedureError(f"wait must be a number of seconds from 0 on, got {given!r}")
    return seconds


def _warn_of_holder(call: Call) -> None:
    try:
        lock = call.record.living_holder()
    except NotBootstrappedError:
        call.say("there is no record yet: the first run bootstraps it")
        return
    if lock is not None:
        holder = lock.holder
        call.say(f"{holder.who} on {holder.host} is at work: {holder.operation}; what follows may change")


def _text(piece: Any) -> str:
    return piece if isinstance(piece, str) else json.dumps(piece, indent=2, ensure_ascii=False)


def _facts(began: Operation, failure: Failure | None) -> dict[str, Any]:
    return {
        lease.OPERATION: began.model_dump(mode="json"),
        lease.FAILURE: None if failure is None else failure.model_dump(mode="json"),
    }
