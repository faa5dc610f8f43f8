"""Agent runs: routing between models, budgets, tools, guardrails (000, 002 §3)."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from .auth import Principal
from .config import Settings
from .context import annotate, correlation_id
from .errors import SERVER_ERROR, ApiError, DailyBudgetExceededError, SessionBudgetExceededError
from .flags import BACKUP_MODEL, WAITER_V2, Exposure, Flags
from .guardrails import Breach, OutputFilter, clean
from .logs import get_logger
from .metrics import Metrics
from .model_api import (
    Answer,
    ModelApi,
    ModelCredentialsRejectedError,
    ModelUnavailableError,
    TextDelta,
    ToolCall,
)
from .pricing import estimate
from .store import AgentSession, Event, Spend, Store, Usage
from .tools import Tools, definitions

MAX_ROUNDS: Final = 4
"""Calls of the model in one turn: the first, and one after each set of tool calls."""

INSTRUCTIONS: Final = {
    "v1": "You are the waiter of a restaurant. Answer briefly. Use the tools for customers and vouchers.",
    "v2": (
        "You are the waiter of a restaurant. Answer briefly and name the sources you used. "
        "Where allergens are asked about and the documents don't settle it, hand over to a person. "
        "Use the tools for customers and vouchers."
    ),
}


@dataclass(frozen=True)
class Delta:
    """A piece of the answer that passed the guardrails."""

    text: str


@dataclass(frozen=True)
class Completed:
    """The end of a turn."""

    session_id: uuid.UUID
    text: str
    variant: str
    models: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    usd: Decimal
    tools: tuple[str, ...]
    breaches: tuple[Breach, ...]

    def json(self) -> dict[str, Any]:
        """Return the turn as JSON."""
        return {
            "session_id": str(self.session_id),
            "text": self.text,
            "variant": self.variant,
            "model": self.models[-1],
            "usage": {
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "cost_usd": float(self.usd),
            },
            "tools": list(self.tools),
            "guardrails": [breach.rule for breach in self.breaches],
        }


@dataclass
class _Turn:
    """What a turn has gathered so far."""

    session: AgentSession
    caller: Principal
    exposure: Exposure
    stream: bool
    output: OutputFilter = field(default_factory=OutputFilter)
    usages: list[Usage] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)

    @property
    def variant(self) -> str:
        """Which waiter answers."""
        return "v2" if WAITER_V2 in self.exposure.flags else "v1"


class Agents:
    """Sessions and turns."""

    def __init__(
        self, settings: Settings, store: Store, api: ModelApi, *, flags: Flags, tools: Tools, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._store = store
        self._api = api
        self._flags = flags
        self._tools = tools
        self._metrics = metrics
        Exposure.prepare(metrics)

    async def create_session(self, caller: Principal) -> AgentSession:
        """Open a session for the caller."""
        session = await self._store.create_session(caller.subject, caller.tenant_group)
        self._metrics.sessions.add(session.tenant_group)
        return session

    async def turn(
        self, caller: Principal, session_id: uuid.UUID, message: str, *, stream: bool
    ) -> AsyncIterator[Delta | Completed]:
        """Answer a message; the last item is Completed. Errors before the first item are ApiErrors."""
        streaming = str(stream).lower()
        exposure = Exposure(self._metrics, caller.tenant_group)
        try:
            session = await self._store.get_session(session_id, caller.subject)
            if session is None:
                raise ApiError(404, "session_not_found", "there is no such session of yours")
            exposure.flags = await self._flags.exposed(caller.tenant_group)
            turn = _Turn(session, caller, exposure, stream)
            text, turn.breaches = clean(message, "input")
            async for delta in self._rounds(turn, text):
                exposure.answered()
                yield delta
            if rest := turn.output.finish():
                yield Delta(rest)
            yield await self._complete(turn)
        except ApiError as error:
            self._metrics.turns.add(error.code, streaming)
            exposure.ended("error" if error.status >= SERVER_ERROR else "refused")
            raise
        except Exception:
            self._metrics.turns.add("internal_error", streaming)
            exposure.ended("error")
            raise
        self._metrics.turns.add("success", streaming)
        exposure.ended("success")

    async def _rounds(self, turn: _Turn, message: str) -> AsyncIterator[Delta]:
        previous = turn.session.last_response_id
        feed: list[dict[str, Any]] = [{"role": "user", "content": message}]
        for _round in range(MAX_ROUNDS):
            answer: Answer | None = None
            async for item in self._call(turn, previous, feed):
                if isinstance(item, Answer):
                    answer = item
                elif text := turn.output.feed(item.text):
                    yield Delta(text)
            if answer is None:
                raise ModelUnavailableError
            previous = answer.id
            await self._store.set_last_response(turn.session.id, previous)
            if not answer.tool_calls:
                return
            feed = [await self._run_tool(turn, call) for call in answer.tool_calls]
        raise ApiError(502, "too_many_tool_rounds", "the model did not come to an answer")

    async def _call(
        self, turn: _Turn, previous: str | None, feed: list[dict[str, Any]]
    ) -> AsyncIterator[TextDelta | Answer]:
        """Reserve, call, settle. What was reserved for a call that broke off stays charged in full."""
        settings = self._settings
        models = await self._route(turn)
        reserved = estimate(models, json.dumps(feed), settings.agent_max_output_tokens)
        reservation = await self._reserve(turn, reserved)
        request: dict[str, Any] = {
            "instructions": INSTRUCTIONS[turn.variant],
            "input": feed,
            "max_output_tokens": settings.agent_max_output_tokens,
            "tools": [
                *definitions(),
                {"type": "file_search", "vector_store_ids": list(settings.vector_stores().values())},
            ],
            "metadata": {"session_id": str(turn.session.id), "correlation_id": correlation_id.get() or ""},
        }
        if previous:
            request["previous_response_id"] = previous
        try:
            async for item in self._api.respond(models, request, stream=turn.stream):
                if isinstance(item, Answer):
                    await self._store.settle(reservation, item.usage)
                    self._account(turn, item.usage)
                yield item
        except (ModelUnavailableError, ModelCredentialsRejectedError):
            await self._store.release(reservation)
            raise

    async def _route(self, turn: _Turn) -> tuple[str, ...]:
        """Return the models to try in order: default, or low-cost near a budget's end; then failover."""
        settings = self._settings
        spent = await self._store.spend(turn.session.id)
        default = settings.openai_responses_model or settings.openai_default_model
        first = settings.openai_low_cost_model if self._nearly_used(spent) else default
        models = [first, settings.openai_failover_model]
        if BACKUP_MODEL in turn.exposure.flags:
            models.reverse()
        return tuple(dict.fromkeys(models))

    def _nearly_used(self, spent: Spend) -> bool:
        settings = self._settings
        ratio = settings.agent_low_cost_ratio
        return (
            spent.session >= settings.agent_session_budget_usd * ratio
            or spent.daily >= settings.agent_daily_budget_usd * ratio
        )

    async def _reserve(self, turn: _Turn, usd: Decimal) -> uuid.UUID:
        try:
            return await self._store.reserve(
                turn.session,
                usd,
                session_budget=self._settings.agent_session_budget_usd,
                daily_budget=self._settings.agent_daily_budget_usd,
            )
        except (SessionBudgetExceededError, DailyBudgetExceededError) as error:
            scope = "session" if isinstance(error, SessionBudgetExceededError) else "daily"
            self._metrics.budget_rejections.add(scope)
            get_logger().warning("ai.budget.exceeded", scope=scope, session_id=str(turn.session.id))
            raise

    def _account(self, turn: _Turn, usage: Usage) -> None:
        turn.usages.append(usage)
        self._metrics.tokens.add(usage.model, "input", by=usage.input_tokens)
        self._metrics.tokens.add(usage.model, "output", by=usage.output_tokens)
        self._metrics.spend.add(usage.model, by=float(usage.usd))
        get_logger().info(
            "ai.usage",
            model=usage.model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=float(usage.usd),
        )

    async def _run_tool(self, turn: _Turn, call: ToolCall) -> dict[str, Any]:
        turn.tools.append(call.name)
        result = await self._tools.run_for_model(
            turn.caller, call.name, call.arguments, f"{turn.session.id}:{call.call_id}"
        )
        return {"type": "function_call_output", "call_id": call.call_id, "output": json.dumps(result)}

    async def _complete(self, turn: _Turn) -> Completed:
        breaches = [*turn.breaches, *turn.output.breaches]
        turn.exposure.breached(turn.output.breaches)
        for breach in breaches:
            self._metrics.guardrails.add(breach.rule, breach.kind)
            get_logger().warning("ai.guardrail.breach", rule=breach.rule, kind=breach.kind)
            await self._store.add_event(
                Event(
                    event="ai.guardrail.breach",
                    kind="guardrail",
                    details={"rule": breach.rule, "kind": breach.kind},
                    session_id=turn.session.id,
                    subject=turn.caller.subject,
                    correlation_id=correlation_id.get(),
                )
            )
        completed = Completed(
            session_id=turn.session.id,
            text=turn.output.text,
            variant=turn.variant,
            models=tuple(usage.model for usage in turn.usages),
            input_tokens=sum(usage.input_tokens for usage in turn.usages),
            output_tokens=sum(usage.output_tokens for usage in turn.usages),
            usd=sum((usage.usd for usage in turn.usages), Decimal(0)),
            tools=tuple(turn.tools),
            breaches=tuple(breaches),
        )
        annotate(session_id=str(turn.session.id), cost_usd=float(completed.usd), variant=turn.variant)
        return completed
