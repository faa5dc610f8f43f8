"""The HTTP server with the drain that a switch of slots needs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from .drain import Drain
from .logs import get_logger

KEEP_ALIVE_SECONDS = 75
"""Longer than the proxy in front (60 s): the one that sends requests is to end idle connections."""


class DrainingServer(uvicorn.Server):
    """On SIGTERM: not ready at once, then serve on, then finish what is in flight, then end with status 0.

    For `grace_seconds` new requests are still answered, with `Connection: close`, because proxies and
    endpoints learn late. After that the server ends as soon as nothing is in flight, at the latest
    `drain_seconds` after the signal. A second signal ends it at once.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Drain, *, grace_seconds: float, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._grace = min(grace_seconds, drain_seconds)
        self._limit = drain_seconds
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT without raising them again at the end: a drained process ends with 0."""
        handled = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain, or end it."""
        if self._drain.draining:
            self.should_exit = self.force_exit = True
            return
        self._drain.start()

    async def on_tick(self, counter: int) -> bool:
        """Start the drain's clock from the event loop."""
        if self._drain.draining and self._draining is None:
            self._draining = asyncio.create_task(self._end())
        return await super().on_tick(counter)

    async def _end(self) -> None:
        get_logger().info("drain.started", in_flight=self._drain.in_flight)
        await asyncio.sleep(self._grace)
        try:
            await asyncio.wait_for(self._drain.idle(), self._limit - self._grace)
            get_logger().info("drain.finished")
        except TimeoutError:
            get_logger().warning("drain.limit_reached", in_flight=self._drain.in_flight)
        self.should_exit = True


def serve(
    app: ASGIApp, drain: Drain, *, host: str, port: int, grace_seconds: float, drain_seconds: float
) -> None:
    """Serve until drained."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody's word about the caller is taken
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,  # what may take longer was awaited by the drain
    )
    # Off while the process started; and what it is made of until now is never garbage.
    gc.freeze()
    gc.enable()
    DrainingServer(config, drain, grace_seconds=grace_seconds, drain_seconds=drain_seconds).run()
