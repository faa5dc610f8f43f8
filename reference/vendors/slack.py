"""Slack: messages to channels by bot token or incoming webhook, and their history."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from .requests import token
from .settings import SlackSeed, SlackSettings
from .store import Document, Store, digest

TOKEN = "slack.token"  # noqa: S105 - a kind of document
WEBHOOK = "slack.webhook"
MESSAGE = "slack.message"

_BOT = "U0ICUPABOT"


def seed(store: Store, keys: SlackSeed) -> None:
    """Put the first tokens and webhooks in."""
    for value in keys.tokens:
        store.put(TOKEN, digest(value), {})
    for path, channel in keys.webhooks.items():
        store.put(WEBHOOK, digest(path), {"channel": channel.removeprefix("#")})


def channel_id(name: str) -> str:
    """Id of a channel: the same at every start."""
    return f"C{digest(name)[:10].upper()}"


def router(store: Store, settings: SlackSettings) -> APIRouter:  # noqa: PLR0915 - handlers
    """Return the Web API below `/api`, and incoming webhooks below `/services`."""
    routes = APIRouter()
    names = {channel_id(name): name for name in settings.channels}

    def kind(channel: str) -> str:
        return f"{MESSAGE}/{channel}"

    def resolve(channel: Any) -> str | None:
        text = str(channel or "").removeprefix("#")
        return text if text in names else next((key for key, name in names.items() if name == text), None)

    async def arguments(request: Request) -> Document:
        if request.headers.get("content-type", "").startswith("application/json"):
            body = await request.json()
            return body if isinstance(body, dict) else {}
        return {**request.query_params, **{key: str(value) for key, value in (await request.form()).items()}}

    def refusal(request: Request, asked: Document) -> Document | None:
        value = token(request) or asked.get("token")
        if not value:
            return {"ok": False, "error": "not_authed"}
        return (
            None
            if store.get(TOKEN, digest(str(value))) is not None
            else {"ok": False, "error": "invalid_auth"}
        )

    def post(channel: str, asked: Document) -> Document:
        with store.transaction():
            last = store.all(kind(channel))
            moment = time.time_ns() // 1000
            if last:
                moment = max(moment, int(str(last[-1]["ts"]).replace(".", "")) + 1)
            stamp = f"{moment // 1_000_000}.{moment % 1_000_000:06d}"
            kept: Document = {
                name: asked[name] for name in ("text", "blocks", "attachments", "thread_ts") if name in asked
            }
            return store.put(kind(channel), stamp, {"type": "message", "user": _BOT, "ts": stamp, **kept})

    @routes.post("/api/auth.test")
    async def auth_test(request: Request) -> Document:
        problem = refusal(request, await arguments(request))
        return problem or {"ok": True, "team": settings.team, "user_id": _BOT}

    @routes.post("/api/chat.postMessage")
    async def post_message(request: Request) -> Document:
        asked = await arguments(request)
        if problem := refusal(request, asked):
            return problem
        channel = resolve(asked.get("channel"))
        if channel is None:
            return {"ok": False, "error": "channel_not_found"}
        if not any(asked.get(name) for name in ("text", "blocks", "attachments")):
            return {"ok": False, "error": "no_text"}
        message = post(channel, asked)
        return {"ok": True, "channel": channel, "ts": message["ts"], "message": message}

    @routes.post("/api/chat.update")
    async def update(request: Request) -> Document:
        asked = await arguments(request)
        if problem := refusal(request, asked):
            return problem
        channel = resolve(asked.get("channel"))
        if channel is None:
            return {"ok": False, "error": "channel_not_found"}
        stamp = str(asked.get("ts", ""))
        present = store.get(kind(channel), stamp)
        if present is None:
            return {"ok": False, "error": "message_not_found"}
        changes: Document = {name: asked[name] for name in ("text", "blocks", "attachments") if name in asked}
        message = store.put(kind(channel), stamp, {**present, **changes, "edited": {"user": _BOT}})
        return {"ok": True, "channel": channel, "ts": stamp, "message": message}

    @routes.api_route("/api/conversations.list", methods=["GET", "POST"])
    async def conversations(request: Request) -> Document:
        if problem := refusal(request, await arguments(request)):
            return problem
        channels = [
            {"id": key, "name": name, "is_channel": True, "is_member": True} for key, name in names.items()
        ]
        return {"ok": True, "channels": channels, "response_metadata": {"next_cursor": ""}}

    @routes.api_route("/api/conversations.history", methods=["GET", "POST"])
    async def history(request: Request) -> Document:
        asked = await arguments(request)
        if problem := refusal(request, asked):
            return problem
        channel = asked.get("channel")
        if channel not in names:
            return {"ok": False, "error": "channel_not_found"}
        oldest = str(asked.get("oldest", "0"))
        limit = int(asked.get("limit", 100))
        found = [
            item for item in reversed(store.all(kind(str(channel)))) if float(item["ts"]) > float(oldest)
        ]
        return {"ok": True, "messages": found[:limit], "has_more": len(found) > limit}

    @routes.post("/services/{path:path}")
    async def webhook(path: str, request: Request) -> Response:
        target = store.get(WEBHOOK, digest(path))
        channel = resolve(target["channel"]) if target else None
        if channel is None:
            return PlainTextResponse("no_service", 404)
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return PlainTextResponse("invalid_payload", 400)
        if not any(asked.get(name) for name in ("text", "blocks", "attachments")):
            return PlainTextResponse("no_text", 400)
        post(channel, asked)
        return PlainTextResponse("ok")

    return routes
