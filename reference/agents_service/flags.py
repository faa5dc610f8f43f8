"""Feature flags (CFG-3): rows of agent_runtime_configs, per tenant group, over the Supabase REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import httpx
from pydantic import BaseModel, TypeAdapter

from .auth import TENANT_GROUPS
from .config import SupabaseSettings
from .context import correlation_headers
from .logs import get_logger
from .metrics import Metrics

TABLE: Final = "agent_runtime_configs"
CACHE_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 0.5
"""How long a request waits for a read that is slow, once any has succeeded."""

WAITER_V2: Final = "ai_waiter.v2.enabled"
BACKUP_MODEL: Final = "ai_model.failover.enabled"


class Flag(BaseModel):
    """A row: `tenant_group` is internal, pilot or full."""

    key: str
    tenant_group: str
    enabled: bool


class FlagError(Exception):
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
