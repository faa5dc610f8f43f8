"""Models, responses (plain and streamed) and voice sessions."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from reference.vendors.requests import json_object
from reference.vendors.settings import OpenAISettings
from reference.vendors.store import Document, Store, new_id, now

from .common import DAY, NO_JSON, RESPONSE, USAGE, Caller, error

_CHARACTERS_A_TOKEN = 4


def add_routes(routes: APIRouter, store: Store, settings: OpenAISettings) -> None:
    """Add models, responses and voice sessions."""

    def model_object(name: str) -> Document:
        return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}

    @routes.get("/models")
    async def models() -> Document:
        return {"object": "list", "data": [model_object(name) for name in settings.models]}

    @routes.get("/models/{name}")
    async def model(name: str) -> Document:
        if name not in settings.models:
            raise error(404, f"The model '{name}' does not exist", "model_not_found", "model")
        return model_object(name)

    @routes.post("/responses")
    async def respond(key: Caller, request: Request) -> Response:
        asked = await json_object(request, NO_JSON)
        document = _respond(store, settings, key, asked)
        if asked.get("stream"):
            events = _events(document, settings.token_seconds)
            return StreamingResponse(events, media_type="text/event-stream")
        return Response(json.dumps(document), media_type="application/json")

    @routes.get("/responses/{response_id}")
    async def response(key: Caller, response_id: str) -> Document:
        return _stored_response(store, key, response_id)

    @routes.delete("/responses/{response_id}")
    async def delete_response(key: Caller, response_id: str) -> Document:
        _stored_response(store, key, response_id)
        store.delete(RESPONSE, response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    @routes.post("/realtime/client_secrets")
    async def client_secret(request: Request) -> Document:
        asked = await json_object(request, NO_JSON)
        session = {"type": "realtime", "id": new_id("sess_"), **asked.get("session", {})}
        if session.get("model") not in settings.models:
            raise error(400, "Model not found", "model_not_found", "session.model")
        return {"value": f"ek_{secrets.token_urlsafe(24)}", "expires_at": now() + 600, "session": session}


def _stored_response(store: Store, key: Document, response_id: str) -> Document:
    stored = store.get(RESPONSE, response_id)
    if stored is None or stored["project"] != key["project"]:
        raise error(404, f"Response with id '{response_id}' not found.")
    document: Document = stored["document"]
    return document


def _texts(asked: Any) -> list[tuple[str, str]]:
    """Return kind (`user`, `system`, `output`, …) and text of each item of `input`."""
    if isinstance(asked, str):
        return [("user", asked)]
    if not isinstance(asked, list):
        raise error(400, "Invalid type for 'input': expected a string or an array.", "invalid_type", "input")
    texts: list[tuple[str, str]] = []
    for item in asked:
        if not isinstance(item, dict):
            raise error(400, "Invalid type for 'input': expected an object.", "invalid_type", "input")
        if item.get("type") == "function_call_output":
            texts.append(("output", str(item.get("output", ""))))
        elif "content" in item:
            content = item["content"]
            parts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in content]
            texts.append((str(item.get("role", "user")), "".join(parts)))
    return texts


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_A_TOKEN)


def _respond(store: Store, settings: OpenAISettings, key: Document, asked: Document) -> Document:
    model = asked.get("model")
    if model not in settings.models:
        raise error(400, f"The requested model '{model}' does not exist.", "model_not_found", "model")
    if "input" not in asked:
        raise error(400, "Missing required parameter: 'input'.", "missing_required_parameter", "input")
    previous = asked.get("previous_response_id")
    if previous is not None:
        stored = store.get(RESPONSE, previous)
        if stored is None or stored["project"] != key["project"]:
            raise error(
                400,
                f"Previous response with id '{previous}' not found.",
                "previous_response_not_found",
                "previous_response_id",
            )
    texts = _texts(asked["input"])
    output = [_function_call(asked, texts) or _message(texts)]
    written = json.dumps(output[0].get("arguments") or output[0]["content"][0]["text"])
    limit = asked.get("max_output_tokens")
    most = _tokens(written) if limit is None else int(limit)
    cut = _tokens(written) > most
    if cut and output[0]["type"] == "message":
        text = output[0]["content"][0]["text"][: most * _CHARACTERS_A_TOKEN]
        output[0]["content"][0]["text"] = text
        output[0]["status"] = "incomplete"
    used = {
        "input_tokens": sum(_tokens(text) for _, text in texts)
        + _tokens(str(asked.get("instructions") or "")),
        "output_tokens": min(_tokens(written), most),
    }
    document = {
        "id": new_id("resp_", 24),
        "object": "response",
        "created_at": now(),
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": limit,
        "metadata": asked.get("metadata") or {},
        "model": model,
        "output": output,
        "previous_response_id": previous,
        "store": asked.get("store", True),
        "tools": asked.get("tools") or [],
        "usage": {
            **used,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used["input_tokens"] + used["output_tokens"],
        },
    }
    with store.transaction():
        if document["store"]:
            store.put(RESPONSE, str(document["id"]), {"project": key["project"], "document": document})
        _account(store, key, str(model), used)
    return document


def _function_call(asked: Document, texts: list[tuple[str, str]]) -> Document | None:
    """Call the function whose name the last message of the user has, with the JSON object that follows it."""
    kind, text = texts[-1] if texts else ("", "")
    if kind != "user":
        return None
    for tool in asked.get("tools") or []:
        name = tool.get("name")
        if tool.get("type") == "function" and name and name in text:
            start = text.find("{", text.find(name))
            try:
                arguments, _ = json.JSONDecoder().raw_decode(text[start:]) if start >= 0 else ({}, 0)
            except ValueError:
                arguments = {}
            return {
                "type": "function_call",
                "id": new_id("fc_"),
                "call_id": new_id("call_"),
                "name": name,
                "arguments": json.dumps(arguments),
                "status": "completed",
            }
    return None


def _message(texts: list[tuple[str, str]]) -> Document:
    kind, text = next(((kind, text) for kind, text in reversed(texts) if text), ("user", ""))
    answer = f"The tool answered: {text}" if kind == "output" else f"You said: {text}"
    return {
        "type": "message",
        "id": new_id("msg_"),
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": answer, "annotations": []}],
    }


async def _events(document: Document, seconds: float) -> AsyncIterator[str]:
    """Server-sent events of a finished response, a word at a time."""
    number = -1

    def event(kind: str, **fields: Any) -> str:
        nonlocal number
        number += 1
        return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **fields})}\n\n"

    begun = {**document, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(document["output"]):
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            empty = {**item, "arguments": "", "status": "in_progress"}
            yield event("response.output_item.added", output_index=index, item=empty)
            yield event("response.function_call_arguments.delta", **place, delta=item["arguments"])
            yield event("response.function_call_arguments.done", **place, arguments=item["arguments"])
        else:
            part = item["content"][0]
            empty = {**item, "content": [], "status": "in_progress"}
            yield event("response.output_item.added", output_index=index, item=empty)
            yield event("response.content_part.added", **place, content_index=0, part={**part, "text": ""})
            for delta in re.findall(r"\s*\S+\s*", part["text"]):
                await asyncio.sleep(seconds)
                yield event("response.output_text.delta", **place, content_index=0, delta=delta)
            yield event("response.output_text.done", **place, content_index=0, text=part["text"])
            yield event("response.content_part.done", **place, content_index=0, part=part)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{document['status']}", response=document)


def _account(store: Store, key: Document, model: str, used: dict[str, int]) -> None:
    start = now() // DAY * DAY
    usage_id = f"{start}/{key['project']}/{model}"
    usage = store.get(USAGE, usage_id) or {
        "start": start,
        "project": key["project"],
        "model": model,
        "input_tokens": 0,
        "output_tokens": 0,
        "requests": 0,
    }
    store.put(
        USAGE,
        usage_id,
        {
            **usage,
            "requests": usage["requests"] + 1,
            **{name: usage[name] + count for name, count in used.items()},
        },
    )
