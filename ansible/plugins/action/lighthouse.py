"""Controller side only: measures a page of the environment with a browser, where one is present (DEP-2)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ansible.plugins.action import ActionBase
from infra.lighthouse import CATEGORIES, LighthouseError, Page, measure
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.operation import ProcedureError
from infra.record import Result
from infra.smoke.client import Names, UnknownNameError
from infra.smoke.target import Target, TargetError, find_target
from infra.toolchain import browser

ACTION = "lighthouse"
MINIMUM = {"performance": 50, "accessibility": 90, "best-practices": 80}


class ActionModule(ProcedureAction, ActionBase):
    """`url` (the public one if not given), `minimum` score by category, `timeout` in seconds.

    The result has `run`, `scores` and `passed`, as have the details of an event `lighthouse`. A score
    that is too low fails the task only with `fail_below`: it is no reason to undo what it comes after. Where
    no browser is present, that is said: `not run: no browser`.
    """

    arguments: ClassVar[dict[str, Any]] = {
        "url": {"type": "str"},
        "minimum": {"type": "dict", "default": {}},
        "timeout": {"type": "float", "default": 120.0},
        "fail_below": {"type": "bool", "default": False},
    }
    refusals: ClassVar[tuple[type[Exception], ...]] = (TargetError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Measure, log, judge."""
        minimum = _minimum(call.arguments["minimum"])
        target = find_target(call.outputs, call.stack)
        url = call.arguments["url"] or f"https://{target.name}/"
        if call.check:
            call.did(f"measure {url} with Lighthouse")
            return {"run": False, "passed": True, "scores": {}}
        programs = browser.find()
        if programs is None:
            absent = ", ".join(browser.missing())
            message = f"Lighthouse not run: no browser (missing: {absent}; make lighthouse installs it)"
            return _tell(call, message, {"url": url, "run": False, "reason": f"missing: {absent}"})
        try:
            found = measure(_page(url, target), programs, call.arguments["timeout"])
        except (LighthouseError, UnknownNameError) as error:
            details = {"url": url, "run": False, "reason": str(error)}
            return _tell(call, f"Lighthouse could not measure: {error}", details, Result.FAILED)
        low = found.below(minimum)
        scores = ", ".join(f"{name} {score}" for name, score in found.scores.items())
        message = f"Lighthouse of {url}: {scores}" + (f"; TOO LOW: {', '.join(low)}" if low else "")
        details = {**asdict(found), "asked": url, "run": True, "minimum": minimum}
        return _tell(call, message, details, Result.FAILED if low else Result.OK)


def _minimum(given: dict[str, Any]) -> dict[str, int]:
    unknown = sorted(set(given) - set(CATEGORIES))
    if unknown:
        raise ProcedureError(f"minimum: unknown {', '.join(unknown)}; accepted: {', '.join(CATEGORIES)}")
    try:
        minimum = {**MINIMUM, **{name: int(score) for name, score in given.items()}}
    except (TypeError, ValueError):
        raise ProcedureError(f"minimum: scores are numbers from 0 to 100, got {given}") from None
    if any(not 0 <= score <= 100 for score in minimum.values()):  # noqa: PLR2004
        raise ProcedureError(f"minimum: scores are numbers from 0 to 100, got {given}")
    return minimum


def _page(url: str, target: Target) -> Page:
    """The page with the addresses that the environment's own name servers give; else the system resolves."""
    hosts = {urlsplit(name).hostname or "" for name in (url, target.issuer)}
    if target.nameserver is None and not target.resolvers:
        return Page(url, {}, target.trust)
    names = Names(target.zone, target.nameserver, target.resolvers)
    return Page(url, {host: names.address(host) for host in sorted(hosts)}, target.trust)


def _operation_began(call: Call) -> bool:
    try:
        return bool(call.operation)
    except ProcedureError:
        return False


def _tell(call: Call, message: str, details: dict[str, Any], result: Result = Result.OK) -> dict[str, Any]:
    """Log it, in the running operation if there is one, and say it in the summary."""
    log = call.lease.log if _operation_began(call) else call.record.log
    log(ACTION, result=result, duration=details.get("seconds"), details=details)
    call.did(message)
    passed = result is Result.OK
    return {
        "msg": message,
        "run": details["run"],
        "scores": dict(details.get("scores", {})),
        "passed": passed,
        "failed": call.arguments["fail_below"] and not passed,
    }
