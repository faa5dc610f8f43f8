"""Rate limits per caller and feature (INC-6): in Redis where there is one, in this process where not."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .errors import ApiError
from .logs import get_logger
from .metrics import Metrics

WINDOW_SECONDS: Final = 60
_REDIS_PAUSE_SECONDS: Final = 5.0


class RateLimitedError(ApiError):
    """The caller asks for too much."""

    def __init__(self, feature: str) -> None:
        super().__init__(
            429,
            "rate_limited",
            f"too many requests to {feature}",
            headers={"Retry-After": str(WINDOW_SECONDS)},
        )


class RateLimiter:
    """Fixed windows. Redis holds nothing that can't be rebuilt: without it each process counts for itself."""

    def __init__(self, redis: Redis | None, limit: int, metrics: Metrics) -> None:
        self._redis = redis
        self._limit = limit
        self._metrics = metrics
        self._window = 0
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._redis_due = float("-inf")

    async def check(self, subject: str, feature: str) -> None:
        """Count one request, or raise RateLimitedError."""
        window = int(time.time()) // WINDOW_SECONDS
        count = await self._count(f"ratelimit:{feature}:{subject}:{window}", window)
        if count > self._limit:
            self._metrics.rate_limited.add(feature)
            raise RateLimitedError(feature)

    async def _count(self, key: str, window: int) -> int:
        if self._redis is not None and time.monotonic() >= self._redis_due:
            try:
                async with self._redis.pipeline(transaction=True) as pipeline:
                    pipeline.incr(key)
                    pipeline.expire(key, 2 * WINDOW_SECONDS)
                    count, _ = await pipeline.execute()
                return int(count)
            except (RedisError, OSError) as error:
                self._redis_due = time.monotonic() + _REDIS_PAUSE_SECONDS
                get_logger().warning("ratelimit.redis_unavailable", problem=type(error).__name__)
        if window != self._window:
            self._window = window
            self._counts.clear()
        self._counts[key] += 1
        return self._counts[key]


def connect(url: str | None) -> Redis | None:
    """Return a client that gives up quickly, or None."""
    if url is None:
        return None
    client: Redis = Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)
    return client
