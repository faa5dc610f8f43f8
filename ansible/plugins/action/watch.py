"""Watches a host for some time: its health from outside, its share of errors by its Prometheus (DEP-6)."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import httpx
from ansible.errors import AnsibleError

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.operation import ProcedureError
from infra.procedures.verdict import took
from infra.procedures.watch import Limits, Watch, least_seconds, queries
from infra.record import Result
from infra.smoke.checks import CheckFailedError, Smoke
from infra.smoke.client import UnknownNameError
from infra.smoke.target import TargetError, find_target

ACTION = "watch"
_OK = 200
_SAY_EVERY = 30.0
_ASK_EVERY = 15.0
_TOKEN_SECONDS = 120.0
"""Tokens are short-lived: a new one is taken this often."""


class ActionModule(ProcedureAction, ActionBase):
    """`seconds`, `interval`, `failures` (checks in a row), `error_rate`; fails at the first breach."""

    _requires_connection = True

    arguments: ClassVar[dict[str, Any]] = {
        "seconds": {"type": "float", "default": 1800.0},
        "interval": {"type": "float", "default": 5.0},
        "failures": {"type": "int", "default": 3},
        "error_rate": {"type": "float", "default": 0.01},
    }
    refusals: ClassVar[tuple[type[Exception], ...]] = (TargetError,)
    _stopped = ""

    def work(self, call: Call) -> dict[str, Any]:
        """Watch to the end, or to a breach."""
        limits = Limits.parse(call.arguments)
        if call.check:
            call.did(f"watch {call.host} for {took(limits.seconds)}")
            return {}
        watch = self._watch(call, limits)
        if not watch.breach and self._stopped:
            raise ProcedureError(f"{call.host} was watched no longer: {self._stopped}")
        details = {"host": call.host, "seconds": limits.seconds, "seen": watch.summary()}
        call.lease.log(
            ACTION,
            result=Result.FAILED if watch.breach else Result.OK,
            why=f"{call.host}: {watch.breach}" if watch.breach else "",
            details=details,
        )
        if watch.breach:
            raise ProcedureError(f"{call.host}: {watch.breach}; {watch.summary()}")
        call.did(f"watched {call.host} for {took(limits.seconds)}: {watch.summary()}")
        return {"seen": watch.summary()}

    def _watch(self, call: Call, limits: Limits) -> Watch:
        watch, health = Watch(limits), _Health(call)
        began = asked = said = time.monotonic()
        event, last = call.record.last_event(), False
        while not watch.breach and not self._stopped and not last:
            last = time.monotonic() - began >= limits.seconds
            watch.answered(health.problem())
            now = time.monotonic()
            patience = least_seconds(call.outputs.settings.metrics.scrape_seconds)
            if now - began >= patience and (last or now - asked >= _ASK_EVERY):
                watch.counted(*self._ask(call, now - began))
            if now - asked >= _ASK_EVERY:
                self._stopped = _breach_elsewhere(call, event)
                asked = now
            if now - said >= _SAY_EVERY:
                call.say(f"watched for {took(now - began)} of {took(limits.seconds)}: {watch.summary()}")
                call.lease.check()
                said = now
            if not last:
                time.sleep(max(0.0, min(limits.interval, began + limits.seconds - time.monotonic())))
        return watch

    def _ask(self, call: Call, seconds: float) -> tuple[dict[str, Any] | None, str]:
        try:
            answer: dict[str, Any] = self._execute_module(
                module_name="prometheus_query",
                module_args={"queries": queries(seconds)},
                task_vars=dict(call.variables),
            )
        except AnsibleError as error:
            return None, f"Prometheus can't be asked: {error}"
        if answer.get("failed") or "answers" not in answer:
            return None, str(answer.get("msg", "the host did not answer"))
        return dict(answer["answers"]), ""


def _breach_elsewhere(call: Call, after: int) -> str:
    """What another host's watch has found since; hosts are watched at once, and one breach is enough."""
    found = (event for event in call.record.events(after) if event.action == ACTION)
    return next((event.why for event in found if event.result is Result.FAILED), "")


class _Health:
    """Readiness of the host's region, by its public name, as a program with a token sees it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._smoke: Smoke | None = None
        self._since = 0.0

    def problem(self) -> str:
        """What is wrong; empty where nothing is."""
        try:
            response = self._client().program.get("/health/ready", timeout=5.0)
        except (httpx.HTTPError, CheckFailedError, UnknownNameError) as error:
            self._smoke = None
            return f"{type(error).__name__}: {error}"
        return "" if response.status_code == _OK else f"/health/ready answers {response.status_code}"

    def _client(self) -> Smoke:
        if self._smoke is None or time.monotonic() - self._since > _TOKEN_SECONDS:
            region = str(self._call.variables["icupa_region"])
            self._smoke = Smoke(find_target(self._call.outputs, self._call.stack, region))
            self._since = time.monotonic()
        return self._smoke
