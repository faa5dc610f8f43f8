"""Draining: the process says that it wants no more work, and ends what it has (DEP-1)."""

from __future__ import annotations

import asyncio


class Drain:
    """Counts the work in flight and knows whether the process is on its way out."""

    def __init__(self) -> None:
        self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Stop being ready."""
        self.draining = True

    def enter(self) -> None:
        """Count a request in."""
        self.in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count a request out."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    async def idle(self) -> None:
        """Return as soon as nothing is in flight."""
        await self._idle.wait()
