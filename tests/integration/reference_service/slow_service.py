"""A process for the test of the drain: the real server around an application that answers slowly."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from reference.agents_service.drain import Drain
from reference.agents_service.metrics import Metrics
from reference.agents_service.middleware import RequestMiddleware
from reference.agents_service.server import serve


def main(port: int, grace: float, limit: float) -> None:
    """Serve until drained."""
    drain = Drain()

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"draining": drain.draining, "collects_garbage": gc.isenabled()})

    async def stream(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "begin\n"
            await asyncio.sleep(request.path_params["seconds"])
            yield "end\n"

        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/health", health), Route("/stream/{seconds:float}", stream)])
    app.add_middleware(RequestMiddleware, metrics=Metrics(), drain=drain)
    serve(app, drain, host="127.0.0.1", port=port, grace_seconds=grace, drain_seconds=limit)


if __name__ == "__main__":
    gc.disable()  # as the command line does until it serves
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
