"""Faults of a vendor, set through the control port only."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.types import ASGIApp

VENDORS = ("openai", "supabase", "vercel", "slack", "pagerduty", "statuspage")
_GARBAGE = b'{"unfinished": [1, 2,\x00'
_REMEMBERED = 1000


class Fault(BaseModel):
    """What is wrong with a vendor: slow, failing now and then (a share of 1), down, or talking nonsense."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["none", "down", "garbage"] = "none"
    latency_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    error_rate: Annotated[float, Field(ge=0, le=1)] = 0
    error_status: Annotated[int, Field(ge=400, le=599)] = 500


class Call(BaseModel):
    """One request as it was answered."""

    vendor: str
    method: str
    path: str
    status: int


@dataclass
class Faults:
    """The present faults, and the last calls; a restart forgets both."""

    by_vendor: dict[str, Fault] = field(default_factory=dict)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def of(self, vendor: str) -> Fault:
        """Return a vendor's fault; without one, a fault that does nothing."""
        return self.by_vendor.get(vendor, Fault())


class FaultMiddleware(BaseHTTPMiddleware):
    """Applies the faults before a request reaches its vendor."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        super().__init__(app)
        self._faults = faults

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer a request, or spoil it."""
        vendor = request.url.path.split("/")[1]
        response = await self._answer(request, call_next, self._faults.of(vendor))
        self._faults.calls.append(
            Call(vendor=vendor, method=request.method, path=request.url.path, status=response.status_code)
        )
        return response

    async def _answer(self, request: Request, call_next: RequestResponseEndpoint, fault: Fault) -> Response:
        if fault.latency_ms:
            await asyncio.sleep(fault.latency_ms / 1000)
        if fault.mode == "down":
            return Response("upstream connect error", 503, media_type="text/plain")
        if fault.mode == "garbage":
            return Response(_GARBAGE, 200, media_type="application/json")
        if random.random() < fault.error_rate:  # noqa: S311 - not for cryptography
            return Response("internal error", fault.error_status, media_type="text/plain")
        return await call_next(request)
