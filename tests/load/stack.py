"""The running local stack as a target: its public name, by its own resolver, with its own authority."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.outputs.model import StackOutputs
from infra.outputs.read import read_outputs
from infra.smoke.checks import Smoke, want_status
from infra.smoke.target import find_target
from tests.load import process
from tests.load.kinds import Credentials
from tests.load.plan import Kind, Plan, ticks
from tests.load.process import Load
from tests.load.report import Report
from tests.load.wire import Target
from tests.load.writes import written
from tests.running import STACK

STREAMS_PER_SESSION = 100
"""Streams that a session's budget pays for, with room to spare."""


def target(outputs: StackOutputs) -> Target:
    """The public name of the local stack; ValueError for another stack: no load is put on it."""
    if outputs.environment != STACK:
        raise ValueError(f"stack {outputs.environment}: load is for {STACK} only")
    return Target(
        name=outputs.domain,
        resolvers=tuple(str(address) for address in outputs.settings.resolvers),
        allowed=frozenset(str(host.address) for host in outputs.hosts),
        trust="\n".join(outputs.settings.trust),
    )


def _sessions(smoke: Smoke, plan: Plan) -> tuple[str, ...]:
    streams = sum(tick.kind is Kind.STREAM for tick in ticks(plan))
    made = []
    for _ in range(math.ceil(streams / STREAMS_PER_SESSION)):
        answer = want_status(smoke.program.post("/api/agents/sessions"), 201)
        made.append(str(answer.json()["id"]))
    return tuple(made)


@contextmanager
def loading(plan: Plan, directory: Path = process.OUTPUT) -> Iterator[Load]:
    """Load on the public name of the running local stack until the block ends, or the plan does."""
    outputs = read_outputs(STACK)
    smoke = Smoke(find_target(outputs, STACK))
    secret = smoke.target.secrets.get("whatsapp-app-secret")
    credentials = Credentials(smoke.token(), secret, _sessions(smoke, plan))
    with process.running(plan, target(outputs), credentials, smoke.token, directory) as load:
        yield load


MOST_LATE = 0.1
"""Share of requests that may be sent a little late where only losses count."""


def lossless(load: Load) -> Report:
    """End the load and see that nothing was lost; when exactly requests were sent does not matter for that.

    Raises:
        AssertionError: a request failed, an acknowledged write is missing or there twice, or the load itself
            proves nothing; the message has the reasons.
    """
    report = load.finish()
    found = written(load.run, report.acknowledged)
    good = not (report.failed or report.invalid(MOST_LATE) or found.missing or found.repeated)
    writes = f"{len(found.missing)} acknowledged writes missing, {found.repeated} made again"
    assert good, "\n".join([*report.summary(), writes])
    return report
