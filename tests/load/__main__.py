"""`python -m tests.load`: the generator as a process of its own, spoken to by `process`.

On standard input, a line of JSON with what to do (an `Order`), then a line `{"token": …}` for each new token.
It stops by itself as planned, and at the end of standard input, so that it never outlives who started it. On
standard output, a line of JSON a second: `{"sent": n, "ended": n, "failed": n}`, the first when it begins.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from contextlib import suppress

import uvloop

from tests.load import ledger
from tests.load.generator import Generator
from tests.load.kinds import Credentials, Kinds
from tests.load.ledger import OK
from tests.load.order import Order

PROGRESS_SECONDS = 1.0
_PRIORITY = -10


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def _listen(reader: asyncio.StreamReader, credentials: Credentials, generator: Generator) -> None:
    while line := await reader.readline():
        credentials.token = json.loads(line)["token"]
    generator.stop()


def _say(generator: Generator) -> None:
    ended = generator.outcomes.total()
    said = {"sent": generator.sent, "ended": ended, "failed": ended - generator.outcomes[OK]}
    try:
        print(json.dumps(said), flush=True)
    except BrokenPipeError:
        generator.stop()


async def _report(generator: Generator) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        _say(generator)


async def main() -> None:
    """Run one order."""
    # A schedule that waits for the processor measures the machine; who may not have it does without.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    reader = await _standard_input()
    order = Order.model_validate_json(await reader.readline())
    kinds = Kinds(order.run, order.plan, order.credentials)
    with ledger.writing(order.ledger) as writer:
        generator = Generator(order.run, order.plan, order.target, kinds, writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, generator.stop)
        tasks = [
            asyncio.create_task(_listen(reader, kinds.credentials, generator)),
            asyncio.create_task(_report(generator)),
        ]
        gc.freeze()
        await generator.run(lambda: _say(generator))
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        _say(generator)


if __name__ == "__main__":
    uvloop.run(main())
