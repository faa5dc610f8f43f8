"""The WhatsApp webhook (001, INC-5): challenge, signature, message ids remembered for an hour."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any, Final

from .config import Settings
from .context import correlation_id
from .errors import ApiError
from .guardrails import clean
from .logs import get_logger
from .metrics import Metrics
from .store import Event, Store

SIGNATURE_HEADER: Final = "X-Hub-Signature-256"


class WhatsApp:
    """Takes messages: a new one is acknowledged when its event is durable, a repeated one at once."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        for outcome in ("accepted", "duplicate", "bad_signature"):
            metrics.whatsapp.prepare(outcome)

    def challenge(self, mode: str | None, token: str | None, challenge: str | None) -> str:
        """Return the challenge to somebody who knows the verify token."""
        expected = self._settings.whatsapp_verify_token.get_secret_value()
        known = hmac.compare_digest((token or "").encode(), expected.encode())
        if mode != "subscribe" or not known or challenge is None:
            raise ApiError(403, "verification_failed", "mode, token or challenge is not as expected")
        return challenge

    def check_signature(self, body: bytes, signature: str | None) -> None:
        """Raise a 401 unless `body` was signed with the app's secret."""
        secret = self._settings.whatsapp_app_secret.get_secret_value()
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest((signature or "").encode(), expected.encode()):
            self._metrics.whatsapp.add("bad_signature")
            raise ApiError(401, "bad_signature", f"{SIGNATURE_HEADER} does not fit the body")

    async def take(self, body: bytes) -> dict[str, int]:
        """Take the messages of a signed body; return how many were new and how many repeated."""
        counts = {"accepted": 0, "duplicates": 0}
        for message in _messages(_parse(body)):
            message_id = message["id"]
            event = Event(
                event="ai.whatsapp.message.processing",
                kind="whatsapp",
                details={"message_id": message_id, "type": message.get("type"), "text": _text(message)},
                subject=f"whatsapp:{message.get('from', 'unknown')}",
                correlation_id=correlation_id.get(),
            )
            if await self._store.accept_message(message_id, event):
                counts["accepted"] += 1
                self._metrics.whatsapp.add("accepted")
                get_logger().info(event.event, message_id=message_id, type=message.get("type"))
            else:
                counts["duplicates"] += 1
                self._metrics.whatsapp.add("duplicate")
        return counts


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise ApiError(400, "body_malformed", "the body is not JSON") from None


def _messages(document: Any) -> Iterator[dict[str, Any]]:
    try:
        for entry in document["entry"]:
            for change in entry["changes"]:
                for message in change["value"].get("messages", []):
                    if not isinstance(message["id"], str) or not message["id"]:
                        raise TypeError
                    yield message
    except (AttributeError, KeyError, TypeError):
        raise ApiError(400, "body_malformed", "the body is not a WhatsApp notification") from None


def _text(message: dict[str, Any]) -> str | None:
    text = message.get("text")
    body = text.get("body") if isinstance(text, dict) else None
    return clean(body, "input")[0] if isinstance(body, str) else None
