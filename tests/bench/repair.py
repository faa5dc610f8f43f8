"""Runs killed with SIGKILL at five moments each, and repaired by `make up` (issue 3, acceptance 7)."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.harness import Result
from tests.kills import PLAY_MOMENTS, PROGRAM_MOMENTS, Moment, kill_play, kill_program, repaired

_RUNS: dict[str, tuple[Callable[[Moment], None], tuple[Moment, ...]]] = {
    "pulumi up": (kill_program, PROGRAM_MOMENTS),
    "site play": (kill_play, PLAY_MOMENTS),
}


def run(*, short: bool = False) -> Result:
    """Kill and repair; a repair that fails is a bar that does not hold, with its reason as a note."""
    result = Result()
    for name, (kill, moments) in _RUNS.items():
        chosen = moments[1::3] if short else moments
        seconds = []
        for moment in chosen:
            kill(moment)
            try:
                seconds.append(repaired())
            except AssertionError as error:
                result.notes.append(f"{name}, killed when {moment.name}: {error}")
        if seconds:
            result.sample(f"{name}: repair by make up", seconds, "s")
        result.bar(f"{name}: killed and not repaired", len(chosen) - len(seconds), "==", 0)
    return result
