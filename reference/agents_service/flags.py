"""Feature flags (CFG-3): rows of agent_runtime_configs, per tenant group, over the Supabase REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, Final

import httpx
from pydantic import BaseModel, TypeAdapter

from .auth import TENANT_GROUPS
from .config import SupabaseSettings
from .context import correlation_headers
from .errors import CommandError
from .guardrails import KINDS, Breach
from .logs import get_logger
from .metrics import Metrics

TABLE: Final = "agent_runtime_configs"
CACHE_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 0.5
"""How long a request waits for a read that is slow, once any has succeeded."""
OUTCOMES: Final = ("success", "refused", "error")
"""How a turn ends: answered, the caller's doing (4xx), the service's (5xx)."""

WAITER_V2: Final = "ai_waiter.v2.enabled"
BACKUP_MODEL: Final = "ai_model.failover.enabled"
FLAGS: Final = (WAITER_V2, BACKUP_MODEL)
"""Flags that this release knows: the only values of the label `flag`."""


class Flag(BaseModel):
    """A row: `tenant_group` is internal, pilot or full."""

    key: str
    tenant_group: str
    enabled: bool


class FlagError(CommandError):
    """Flags can't be read or written."""


_ROWS: Final = TypeAdapter(list[Flag])


@dataclass(frozen=True)
class FlagTable:
    """The REST resource; credentials go in headers only."""

    settings: SupabaseSettings
    client: httpx.AsyncClient

    async def rows(self) -> list[Flag]:
        """Return every flag."""
        response = await self._send("GET", params={"select": "key,tenant_group,enabled"})
        try:
            return _ROWS.validate_python(response.json())
        except ValueError as error:
            raise FlagError(f"{TABLE} has rows of another shape") from error

    async def set(self, key: str, groups: Mapping[str, bool]) -> None:
        """Write a flag for some groups, others keep theirs."""
        rows = [{"key": key, "tenant_group": group, "enabled": on} for group, on in groups.items()]
        await self._send(
            "POST",
            params={"on_conflict": "key,tenant_group"},
            json=rows,
            headers={"Prefer": "resolution=merge-duplicates,return=minimal"},
        )

    async def disable(self, key: str) -> None:
        """Turn a flag off for every group; one that has no rows gets them."""
        await self.set(key, dict.fromkeys(TENANT_GROUPS, False))

    async def _send(self, method: str, **request: Any) -> httpx.Response:
        key = self.settings.supabase_service_role_key.get_secret_value()
        headers = {
            "apikey": key,
            "Authorization": f"Bearer {key}",
            **correlation_headers(),
            **request.pop("headers", {}),
        }
        try:
            response = await self.client.request(
                method,
                f"{self.settings.supabase_url}/rest/v1/{TABLE}",
                headers=headers,
                timeout=self.settings.supabase_timeout_seconds,
                **request,
            )
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise FlagError(f"Supabase answered {error.response.status_code}") from error
        except httpx.HTTPError as error:
            raise FlagError(f"Supabase can't be reached ({type(error).__name__})") from error
        return response


class Flags:
    """Cached flags. A failed read keeps what is known; a flag that is not known is off.

    Requests share one read at a time and wait for it only shortly: a vendor that hangs slows no turn.
    """

    def __init__(self, table: FlagTable, metrics: Metrics) -> None:
        self._table = table
        self._metrics = metrics
        self._known: dict[tuple[str, str], bool] | None = None
        self._due = float("-inf")
        self._started = float("-inf")
        self._read: asyncio.Task[None] | None = None

    async def enabled(self, key: str, tenant_group: str) -> bool:
        """Tell whether `key` is on for a tenant group."""
        if self._read is None and monotonic() >= self._due:
            self._started = monotonic()
            self._read = asyncio.create_task(self._refresh())
        if self._read is not None:
            patience = None if self._known is None else self._started + PATIENCE_SECONDS - monotonic()
            if patience is None or patience > 0:
                await asyncio.wait({self._read}, timeout=patience)
        return (self._known or {}).get((key, tenant_group), False)

    async def exposed(self, tenant_group: str) -> frozenset[str]:
        """Return the flags of this release that are on for a tenant group."""
        return frozenset([key for key in FLAGS if await self.enabled(key, tenant_group)])

    async def _refresh(self) -> None:
        try:
            rows = await self._table.rows()
            self._known = {(row.key, row.tenant_group): row.enabled for row in rows}
            self._metrics.flag_reads.add("success")
        except FlagError as error:
            self._known = self._known or {}
            self._metrics.flag_reads.add("error")
            get_logger().warning("flags.unavailable", problem=str(error), known=len(self._known))
        finally:
            self._due = monotonic() + CACHE_SECONDS
            self._read = None


class Exposure:
    """What became of one turn, counted for each flag that was on in it: a rollout's evidence (DEP-3)."""

    def __init__(self, metrics: Metrics, tenant_group: str) -> None:
        self._metrics = metrics
        self._group = tenant_group
        self._started = perf_counter()
        self._answered = False
        self.flags: frozenset[str] = frozenset()

    @staticmethod
    def prepare(metrics: Metrics) -> None:
        """Let every series exist at zero."""
        for flag in FLAGS:
            for group in TENANT_GROUPS:
                metrics.flag_seconds.prepare(flag, group)
                for outcome in OUTCOMES:
                    metrics.flag_turns.prepare(flag, group, outcome)
                for kind in KINDS:
                    metrics.flag_guardrails.prepare(flag, group, kind)

    def answered(self) -> None:
        """The first piece of the answer is there; later ones don't matter."""
        if not self._answered:
            self._answered = True
            seconds = perf_counter() - self._started
            for flag in self.flags:
                self._metrics.flag_seconds.observe(seconds, flag, self._group)

    def ended(self, outcome: str) -> None:
        """The turn is over: one of OUTCOMES. How quickly a caller is refused says nothing of answers."""
        if outcome != "refused":
            self.answered()
        for flag in self.flags:
            self._metrics.flag_turns.add(flag, self._group, outcome)

    def breached(self, breaches: Iterable[Breach]) -> None:
        """The answer broke rules."""
        for breach in breaches:
            for flag in self.flags:
                self._metrics.flag_guardrails.add(flag, self._group, breach.kind)
