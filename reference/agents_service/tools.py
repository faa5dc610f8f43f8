"""Tools (001, 003): customers and vouchers. Every call is logged and counted as success or error."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from .auth import Principal
from .errors import ApiError
from .logs import get_logger
from .metrics import Metrics
from .store import Store, Voucher
from .switches import Switches

VOUCHERS_SWITCH: Final = "FEATURE_AGENT_VOUCHERS"
Msisdn = Annotated[str, Field(pattern=r"^\+[1-9]\d{7,14}$", description="Phone number, E.164")]
PolicyNumber = Annotated[str, Field(pattern=r"^AI-[0-9A-F]{12}$", description="Voucher number")]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LookupCustomer(_Arguments):
    """Find a customer by phone number."""

    msisdn: Msisdn


class CreateVoucher(_Arguments):
    """Issue a voucher to a customer, who is created where unknown."""

    customer_msisdn: Msisdn
    amount: Annotated[int, Field(gt=0, le=10_000_000, description="Whole units of the currency")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "RWF"


class RedeemVoucher(_Arguments):
    """Redeem an issued voucher."""

    policy_number: PolicyNumber


class VoidVoucher(_Arguments):
    """Void an issued voucher."""

    policy_number: PolicyNumber
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Tools:
    """The tools, for the HTTP API and for the model alike."""

    def __init__(self, store: Store, switches: Switches, metrics: Metrics) -> None:
        self._store = store
        self._switches = switches
        self._metrics = metrics
        for name in TOOLS:
            for outcome in ("success", "error"):
                metrics.tools.prepare(name, outcome)

    async def lookup_customer(self, _caller: Principal, arguments: LookupCustomer) -> dict[str, Any]:
        """Return the customer, or 404."""
        customer = await self._store.find_customer(arguments.msisdn)
        if customer is None:
            raise ApiError(404, "customer_not_found", "no customer has this number")
        return _json(asdict(customer))

    async def create_voucher(
        self, caller: Principal, arguments: CreateVoucher, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Issue a voucher; it is durable when this returns. The same key gives the same voucher again."""
        self._switches.require(VOUCHERS_SWITCH)
        digest = hashlib.sha256(arguments.model_dump_json().encode()).hexdigest()
        voucher, _new = await self._store.create_voucher(
            msisdn=arguments.customer_msisdn,
            amount=arguments.amount,
            currency=arguments.currency,
            issued_by=caller.subject,
            idempotency=(idempotency_key, digest) if idempotency_key else None,
        )
        return voucher_json(voucher)

    async def redeem_voucher(self, _caller: Principal, arguments: RedeemVoucher) -> dict[str, Any]:
        """Redeem a voucher, once."""
        return await self._close(arguments.policy_number, "redeemed", None)

    async def void_voucher(self, _caller: Principal, arguments: VoidVoucher) -> dict[str, Any]:
        """Void a voucher that isn't redeemed."""
        return await self._close(arguments.policy_number, "voided", arguments.reason)

    async def get_voucher(self, policy_number: str) -> dict[str, Any]:
        """Return a voucher, or 404."""
        voucher = await self._store.find_voucher(policy_number)
        if voucher is None:
            raise ApiError(404, "voucher_not_found", "there is no such voucher")
        return voucher_json(voucher)

    async def _close(self, policy_number: str, status: str, reason: str | None) -> dict[str, Any]:
        self._switches.require(VOUCHERS_SWITCH)
        voucher = await self._store.close_voucher(policy_number, status, reason)
        if voucher is None:
            raise ApiError(404, "voucher_not_found", "there is no such voucher")
        return voucher_json(voucher)

    async def run(self, name: str, call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Run one call and record how it went (`ai.tool.<name>.success` or `.error`)."""
        try:
            result = await call()
        except Exception as error:
            code = error.code if isinstance(error, ApiError) else type(error).__name__
            self._metrics.tools.add(name, "error")
            get_logger().warning(f"ai.tool.{name}.error", kind="tool_call", tool=name, code=code)
            raise
        self._metrics.tools.add(name, "success")
        get_logger().info(f"ai.tool.{name}.success", kind="tool_call", tool=name)
        return result

    async def run_for_model(
        self, caller: Principal, name: str, arguments: str, idempotency_key: str
    ) -> dict[str, Any]:
        """Run a call that the model asked for; what goes wrong is told to the model."""
        if name not in TOOLS:
            return {"error": {"code": "unknown_tool", "message": "there is no such tool"}}
        model = TOOLS[name]
        method = getattr(self, name)
        extra = {"idempotency_key": idempotency_key} if name == "create_voucher" else {}
        try:
            parsed = model.model_validate_json(arguments)
            return await self.run(name, lambda: method(caller, parsed, **extra))
        except ValidationError:
            self._metrics.tools.add(name, "error")
            get_logger().warning(
                f"ai.tool.{name}.error", kind="tool_call", tool=name, code="invalid_arguments"
            )
            return {"error": {"code": "invalid_arguments", "message": "the arguments don't fit the schema"}}
        except ApiError as error:
            return dict(error.body())


TOOLS: Final[dict[str, type[_Arguments]]] = {
    "lookup_customer": LookupCustomer,
    "create_voucher": CreateVoucher,
    "redeem_voucher": RedeemVoucher,
    "void_voucher": VoidVoucher,
}


def definitions() -> list[dict[str, Any]]:
    """Return the tools as the Responses API wants them described."""
    return [
        {
            "type": "function",
            "name": name,
            "description": (model.__doc__ or "").strip(),
            "parameters": model.model_json_schema(),
        }
        for name, model in TOOLS.items()
    ]


def voucher_json(voucher: Voucher) -> dict[str, Any]:
    """Return a voucher as JSON."""
    return _json(asdict(voucher))


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = to_jsonable_python(fields)
    return document
