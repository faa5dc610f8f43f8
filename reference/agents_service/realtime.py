"""Voice sessions: a short-lived client secret from the model API."""

from __future__ import annotations

from typing import Any

import httpx

from .config import OpenAISettings
from .errors import ApiError
from .logs import get_logger
from .metrics import Metrics
from .model_api import ModelApi


class Realtime:
    """Creates voice sessions."""

    def __init__(
        self, settings: OpenAISettings, api: ModelApi, client: httpx.AsyncClient, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._api = api
        self._client = client
        self._metrics = metrics

    async def create(self) -> dict[str, Any]:
        """Return the client secret that a browser opens its voice session with."""
        try:
            response = await self._client.post(
                f"{self._settings.openai_base_url}/realtime/client_secrets",
                json={"session": {"type": "realtime", "model": self._settings.openai_default_model}},
                headers=self._api.headers(),
                timeout=self._settings.openai_timeout_seconds,
            )
            response.raise_for_status()
            document: dict[str, Any] = response.json()
            secret = {"value": str(document["value"]), "expires_at": document.get("expires_at")}
        except (httpx.HTTPError, KeyError, TypeError, ValueError):
            self._metrics.realtime.add("error")
            get_logger().warning("ai.realtime.session.error")
            raise ApiError(502, "realtime_unavailable", "the model API gave no voice session") from None
        self._metrics.realtime.add("success")
        get_logger().info("ai.realtime.session.created")
        return {"client_secret": secret}
