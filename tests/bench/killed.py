"""Deploys, rollbacks and rollouts killed with SIGKILL after each of their steps, and run again (issue 4, 3).

The steps are those of a whole run under the test's callback, so that none can be forgotten. One that changed
nothing leaves things as the one before it did: a deploy and a rollback are killed once for both. Load is on
all the time: no request may be lost, whatever is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from infra.procedures.rollout import GROUPS
from tests import rollouts
from tests.bench.harness import Result
from tests.deploys import LOAD, containers, deploy, only, record, rollback, serves_alone
from tests.load.plan import Plan
from tests.load.stack import loading, lossless
from tests.releases import good, releases
from tests.running import succeeds
from tests.system.killing import Step, kill_after, moments, spread, trace
from tests.turns import talking

_STEPS_AT_LEAST = 40
_ROLLOUT_STEPS_AT_LEAST = 17
_MOMENTS_AT_LEAST = 20
_SHORT = 3
_HOUR = 3600.0


def _killed(
    result: Result, name: str, command: Callable[[str], Sequence[str]], aims: Sequence[str], *, short: bool
) -> None:
    """Go to and fro between two releases; each run is killed one step later than the one before."""
    steps = trace(command(aims[0]))
    result.bar(f"{name}: steps", len(steps), ">=", _STEPS_AT_LEAST)
    distinct = moments(steps)
    result.bar(f"{name}: steps that change something", len(distinct), ">=", _MOMENTS_AT_LEAST)
    chosen: Sequence[Step] = spread(distinct, _SHORT + 2)[1:-1] if short else distinct
    seconds = []
    with loading(Plan(rate=LOAD.rate, seconds=_HOUR * 2)) as load:
        for number, step in enumerate(chosen, 1):
            aim = aims[number % 2]
            try:
                kill_after(step, command(aim))
                began = monotonic()
                succeeds(command(aim))
                seconds.append(monotonic() - began)
                serves_alone(aim)
            except AssertionError as error:
                result.notes.append(f"{name}, killed after {step}: {error}")
                succeeds(command(aim))
        try:
            lossless(load)
            lost = 0
        except AssertionError as error:
            lost = 1
            result.notes.append(f"{name}: {error}")
    result.sample(f"{name}: run again", seconds, "s")
    result.bar(f"{name}: killed and not converged", len(chosen) - len(seconds), "==", 0)
    result.bar(f"{name}: load that lost something", lost, "==", 0)


def _rollout(result: Result, *, short: bool) -> None:
    """One rollout, killed after each of its steps: each run goes on where the one before was killed."""
    found = rollouts.steps()
    result.bar("rollout: steps", len(found), ">=", _ROLLOUT_STEPS_AT_LEAST)
    phases = rollouts.Phases()
    with rollouts.flag_table() as table, talking() as talk:
        rollouts.forget(table)
        try:
            for step in spread(found, _SHORT) if short else found:
                kill_after(step, rollouts.ROLLOUT)
            succeeds(rollouts.ROLLOUT)
        except AssertionError as error:
            result.notes.append(f"rollout: {error}")
        reached = rollouts.rows(table)
        rollouts.forget(table)
    result.bar("rollout: groups that have the flag", len(reached), "==", len(GROUPS))
    result.bar("rollout: phases left out or begun twice", int(phases.steps() != rollouts.STEPS), "==", 0)
    result.sample("rollout: window", [window.total_seconds() for window in phases.windows()], "s")
    result.bar("rollout: turns that failed", len(talk.failures()), "==", 0)
    result.notes += [f"rollout: {failure}" for failure in talk.failures()]


def run(*, short: bool = False) -> Result:
    """All three procedures; what served before serves again at the end."""
    result = Result()
    former = record().state().release.digest
    with releases() as made:
        aims = [made.make(good(f"killed {number}")) for number in ("one", "two")]
    try:
        _killed(result, "deploy", deploy, aims, short=short)
        _killed(result, "rollback", lambda aim: rollback("-e", f"release={aim}"), aims, short=short)
        _rollout(result, short=short)
    finally:
        succeeds(deploy(former))
    result.bar("hosts that run something else in the end", int(containers() != only(former)), "==", 0)
    return result
