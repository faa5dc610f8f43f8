"""Reading requests as the vendors do."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from .errors import VendorError


def token(request: Request, scheme: str = "Bearer") -> str | None:
    """Credential of the Authorization header, or None."""
    found, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() or None if found.lower() == scheme.lower() else None


async def json_object(request: Request, problem: Any) -> dict[str, Any]:
    """Body as a JSON object.

    Raises:
        VendorError: 400 with `problem` as its body, if it is none.
    """
    try:
        document = await request.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise VendorError(400, problem)
    return document
