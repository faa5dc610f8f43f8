"""What OpenAI's endpoints share: errors, lists, keys and who may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Query, Request

from reference.vendors.errors import VendorError
from reference.vendors.requests import token
from reference.vendors.store import Document, Store, digest, new_id, now

KEY = "openai.key"
SERVICE_ACCOUNT = "openai.service_account"
FILE = "openai.file"
VECTOR_STORE = "openai.vector_store"
RESPONSE = "openai.response"
USAGE = "openai.usage"

INVALID = "invalid_request_error"
DAY = 86_400


def error(
    status: int, message: str, code: str | None = None, param: str | None = None, kind: str = INVALID
) -> VendorError:
    """Return an error in OpenAI\'s shape."""
    return VendorError(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


NO_JSON = {
    "error": {
        "message": "We could not parse the JSON body of your request.",
        "type": INVALID,
        "param": None,
        "code": None,
    }
}


def redact(value: str) -> str:
    """Return what of a key may be shown."""
    return f"{value[:8]}{'*' * 12}{value[-4:]}"


def add_key(
    store: Store, value: str, *, project: str | None, name: str, owner: str | None = None
) -> Document:
    """Add a key; one without a project is an administrator\'s."""
    key_id = new_id("key_")
    return store.put(
        KEY,
        key_id,
        {
            "id": key_id,
            "digest": digest(value),
            "redacted": redact(value),
            "name": name,
            "project": project,
            "owner": owner,
            "created_at": now(),
        },
    )


def add_account(store: Store, project: str, name: str) -> Document:
    """Add a service account of a project."""
    account_id = new_id("svc_acct_")
    account = {
        "object": "organization.project.service_account",
        "id": account_id,
        "name": name,
        "role": "member",
        "created_at": now(),
        "project": project,
    }
    return store.put(SERVICE_ACCOUNT, account_id, account)


def page(
    items: list[Document], limit: int, after: str | None, *, newest_first: bool = False
) -> dict[str, Any]:
    """Return one page of a list, in OpenAI\'s shape."""
    ordered = list(reversed(items)) if newest_first else items
    start = next((index + 1 for index, item in enumerate(ordered) if item["id"] == after), 0)
    data = ordered[start : start + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": start + limit < len(ordered),
    }


Limit = Annotated[int, Query(ge=1, le=100)]


def caller(store: Store, *, administrator: bool) -> Callable[[Request], None]:
    """Return the dependency that refuses who has no valid key, and keeps the key for `Caller`."""

    def check(request: Request) -> None:
        value = token(request)
        if value is None:
            raise error(401, "You didn't provide an API key.")
        key = store.find(KEY, "digest", digest(value))
        if key is None:
            raise error(401, f"Incorrect API key provided: {redact(value)}.", "invalid_api_key")
        if administrator != (key["project"] is None):
            status = 403 if administrator else 401
            message = "You have insufficient permissions for this operation."
            raise error(status, message, "insufficient_permissions")
        request.state.key = key

    return check


def _key(request: Request) -> Document:
    key: Document = request.state.key
    return key


Caller = Annotated[Document, Depends(_key)]
"""The key of the request, for handlers that need it."""
