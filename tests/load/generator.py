"""The loop: every request is sent when it is due, whether or not the ones before were answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from tests.load.kinds import Kinds, Said, WrongAnswerError, write_key
from tests.load.ledger import OK, End, Entry, Header, Writer
from tests.load.plan import WRITES, Plan, Tick, ticks
from tests.load.wire import Client, Exchange, ForeignAddressError, LostError, Target

ASKED, PLANNED, FOREIGN, BROKEN = "asked to stop", "as planned", "foreign address", "broken"
"""Why a run ended."""


class Generator:
    """One run."""

    def __init__(self, run: str, plan: Plan, target: Target, kinds: Kinds, ledger: Writer) -> None:
        self._run = run
        self._plan = plan
        self._kinds = kinds
        self._ledger = ledger
        self._clients = [Client(target, plan.kept_connections) for _ in range(plan.clients)]
        self._stop: str | None = None
        self._broken: BaseException | None = None
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        """Ended requests by outcome."""

    def stop(self, reason: str = ASKED) -> None:
        """Send no more; what is in flight is awaited."""
        self._stop = self._stop or reason

    async def run(self, started: Callable[[], None] | None = None) -> End:
        """Send everything, await every answer, and write the end; `started` is called before the first.

        An error of the generator itself is raised at the end, and leaves the ledger without one.
        """
        cpu = time.process_time()
        self._ledger.header(Header(self._run, self._plan, time.time() - time.monotonic()))
        if started:
            started()
        flying: set[asyncio.Task[None]] = set()
        zero = time.monotonic()
        for tick in ticks(self._plan):
            if self._stop:
                break
            due = zero + tick.at
            if (pause := due - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            task = asyncio.create_task(self._one(tick, due))
            flying.add(task)
            task.add_done_callback(flying.discard)
            task.add_done_callback(self._ended)
            self.sent += 1
        while flying:
            await asyncio.wait(flying)
        for client in self._clients:
            client.close()
        if self._broken:
            raise self._broken
        end = End(self.sent, self._stop or PLANNED, time.process_time() - cpu)
        self._ledger.end(end)
        return end

    def _ended(self, task: asyncio.Task[None]) -> None:
        if error := task.exception():
            self._broken = error
            self.stop(BROKEN)

    async def _one(self, tick: Tick, due: float) -> None:
        started = time.monotonic()
        seen, said = Exchange(), Said()
        try:
            await self._clients[tick.client].send(self._kinds.request(tick), seen, fresh=tick.fresh)
            said = self._kinds.check(tick, seen.status or 0, bytes(seen.body))
            outcome = OK
        except (LostError, WrongAnswerError) as error:
            outcome = str(error)
        except ForeignAddressError as error:
            outcome = str(error)
            self.stop(FOREIGN)
        self.outcomes[outcome] += 1
        self._ledger.entry(
            Entry(
                number=tick.number,
                kind=tick.kind,
                client=tick.client,
                fresh=tick.fresh,
                opened=seen.opened,
                scheduled=due,
                started=started,
                ended=time.monotonic(),
                answered=seen.answered,
                status=seen.status,
                outcome=outcome,
                address=seen.address,
                release=said.release,
                region=said.region,
                key=write_key(self._run, tick.number) if tick.kind in WRITES else None,
            )
        )
