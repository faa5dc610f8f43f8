"""Client of the OpenAI Responses API: plain or streaming, with failover between models."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from .config import OpenAISettings
from .context import annotate, correlation_headers
from .errors import SERVER_ERROR, ApiError
from .logs import get_logger
from .metrics import Metrics
from .pricing import cost
from .store import Usage

_OVERLOADED: Final = 429
_CREDENTIALS: Final = (401, 403)


class ModelUnavailableError(ApiError):
    """Every model of the route failed in a way that another one might not have."""

    def __init__(self) -> None:
        super().__init__(
            503, "model_unavailable", "no model answers at the moment", headers={"Retry-After": "10"}
        )


class ModelCredentialsRejectedError(ApiError):
    """The model API refuses our key."""

    def __init__(self) -> None:
        super().__init__(502, "model_credentials_rejected", "the model API refuses the service's key")


class ModelRefusedError(ApiError):
    """The model API finds the request unacceptable, or broke off its answer."""

    def __init__(self, detail: str) -> None:
        super().__init__(502, "model_refused", f"the model API did not answer: {detail}")


class _TryNextError(Exception):
    """This model failed, the next may do."""


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """A finished answer."""

    id: str
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = field(default=())


class ModelApi:
    """The Responses endpoint."""

    def __init__(self, settings: OpenAISettings, client: httpx.AsyncClient, metrics: Metrics) -> None:
        self._settings = settings
        self._client = client
        self._metrics = metrics

    def headers(self) -> dict[str, str]:
        """Return the credentials and the correlation id."""
        key = self._settings.openai_api_key.get_secret_value()
        correlation = correlation_headers()
        return {
            "Authorization": f"Bearer {key}",
            **correlation,
            **dict.fromkeys(["X-Client-Request-Id"][: len(correlation)], "".join(correlation.values())),
        }

    async def respond(
        self, models: Sequence[str], request: Mapping[str, Any], *, stream: bool
    ) -> AsyncIterator[TextDelta | Answer]:
        """Yield the answer of the first of `models` that gives one; the last item is an Answer.

        A model that answers 429 or 5xx, times out or breaks the connection is followed by the next, until the
        first byte of an answer has been yielded.
        """
        for model in models:
            started, yielded = time.perf_counter(), False
            try:
                async for item in self._one({**request, "model": model, "stream": stream}):
                    yielded = True
                    yield item
            except _TryNextError as error:
                self._metrics.model_requests.add(model, "error")
                get_logger().warning("ai.model.failed", model=model, reason=str(error))
                if yielded:
                    raise ModelRefusedError("the stream broke off") from None
                continue
            except ApiError:
                self._metrics.model_requests.add(model, "refused")
                raise
            seconds = time.perf_counter() - started
            self._metrics.model_requests.add(model, "success")
            self._metrics.model_seconds.observe(seconds, model)
            get_logger().info("openai_latency", model=model, duration_ms=round(seconds * 1000, 1))
            annotate(model=model)
            return
        raise ModelUnavailableError

    async def _one(self, request: Mapping[str, Any]) -> AsyncIterator[TextDelta | Answer]:
        url = f"{self._settings.openai_base_url}/responses"
        timeout = httpx.Timeout(self._settings.openai_timeout_seconds, connect=5)
        try:
            async with self._client.stream(
                "POST", url, json=request, headers=self.headers(), timeout=timeout
            ) as response:
                _check(response.status_code)
                if request["stream"]:
                    async for item in _read_stream(response, request["model"]):
                        yield item
                else:
                    await response.aread()
                    for item in _read(response.json(), request["model"]):
                        yield item
        except httpx.TransportError as error:
            raise _TryNextError(type(error).__name__) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelRefusedError(f"its answer has another shape ({type(error).__name__})") from None


def _check(status: int) -> None:
    if status in _CREDENTIALS:
        raise ModelCredentialsRejectedError
    if status == _OVERLOADED or status >= SERVER_ERROR:
        raise _TryNextError(f"status {status}")
    if not httpx.codes.is_success(status):
        raise ModelRefusedError(f"status {status}")


def _read(document: Mapping[str, Any], asked: str) -> list[TextDelta | Answer]:
    if document.get("status") == "failed":
        raise _TryNextError("failed")
    text = "".join(
        part["text"]
        for item in document["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )
    answer = _answer(document, asked)
    return [TextDelta(text), answer] if text else [answer]


async def _read_stream(response: httpx.Response, asked: str) -> AsyncIterator[TextDelta | Answer]:
    async for line in response.aiter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = json.loads(data)
        match event["type"]:
            case "response.output_text.delta":
                yield TextDelta(event["delta"])
            case "response.completed" | "response.incomplete":
                yield _answer(event["response"], asked)
                return
            case "response.failed" | "error":
                raise _TryNextError("failed")
    raise _TryNextError("stream ended early")


def _answer(document: Mapping[str, Any], asked: str) -> Answer:
    usage = document["usage"]
    tokens = int(usage["input_tokens"]), int(usage["output_tokens"])
    return Answer(
        id=str(document["id"]),
        usage=Usage(asked, *tokens, cost(asked, *tokens)),
        tool_calls=tuple(
            ToolCall(item["call_id"], item["name"], item["arguments"])
            for item in document["output"]
            if item["type"] == "function_call"
        ),
    )
