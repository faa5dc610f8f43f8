"""Controller side only: compares the ages of secrets with their periods; needs no identity (SEC-2)."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from infra.paths import stack_home
from infra.procedures.action import Call, ProcedureAction
from infra.secretstore import SecretStoreError, open_store
from infra.secretstore.ages import ages, by_owner, metrics, missing, moment

METRICS_FILE = "secrets.prom"


class ActionModule(ProcedureAction, ActionBase):
    """`at`: as of this moment, now if not given.

    The result has `ages`, `overdue` and `not_set` (names), `owners` (what is overdue, by owner), `metrics`
    (text) and `metrics_file`, into which it belongs unless somebody says otherwise.
    """

    arguments: ClassVar[dict[str, Any]] = {"at": {"type": "str"}}
    refusals: ClassVar[tuple[type[Exception], ...]] = (SecretStoreError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Read what stands in clear, compare."""
        at = moment(call.arguments["at"])
        store = open_store(call.outputs.secretstore, call.stack, record=call.outputs.record)
        entries = store.entries()
        found = ages(entries, at)
        overdue = [age for age in found if age.overdue]
        following = next((age for age in found if age.due is not None and not age.overdue), None)
        for age in overdue:
            call.did(f"overdue: {age.name}, {age.days} d old, {age.period}, due {age.due:%Y-%m-%d}")
        if following is not None:
            call.did(f"next due: {following.name}, {following.due:%Y-%m-%d}")
        return {
            "ages": [age.as_json() for age in found],
            "overdue": [age.name for age in overdue],
            "owners": by_owner(found),
            "not_set": missing(entries, call.stack),
            "metrics": metrics(found, call.outputs.environment, at),
            "metrics_file": str(stack_home(call.stack) / METRICS_FILE),
        }
