"""Vercel: environment variables of projects (CFG-4), and the account's access tokens."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from .errors import VendorError
from .requests import json_object, token
from .settings import TokenSeed, VercelSettings
from .store import Document, Store, digest, new_id, now

TOKEN = "vercel.token"  # noqa: S105 - a kind of document
VARIABLE = "vercel.env"

TARGETS = {"production", "preview", "development"}
TYPES = {"plain", "encrypted", "sensitive", "system", "secret"}


def seed(store: Store, keys: TokenSeed) -> None:
    """Put the first tokens in."""
    for value in keys.tokens:
        _add_token(store, value, "operations")


def _add_token(store: Store, value: str, name: str) -> Document:
    made = {"createdAt": now() * 1000, "activeAt": now() * 1000}
    return store.put(TOKEN, digest(value), {"id": new_id("", 32), "name": name, "type": "token", **made})


def _error(status: int, code: str, message: str, **more: Any) -> VendorError:
    return VendorError(status, {"error": {"code": code, "message": message, **more}})


def router(store: Store, settings: VercelSettings) -> APIRouter:  # noqa: PLR0915 - handlers
    """Return the API: variables below `/v9` and `/v10`, which answer alike, and tokens."""

    def access(request: Request) -> None:
        value = token(request)
        if value is None or store.get(TOKEN, digest(value)) is None:
            raise _error(403, "forbidden", "Not authorized", invalidToken=True)

    routes = APIRouter(dependencies=[Depends(access)])

    def project(name: str) -> str:
        for project_id, project_name in settings.projects.items():
            if name in {project_id, project_name}:
                return project_id
        raise _error(404, "not_found", "Project not found")

    def kind(name: str) -> str:
        return f"{VARIABLE}/{project(name)}"

    def found(name: str, variable_id: str) -> Document:
        document = store.get(kind(name), variable_id)
        if document is None:
            raise _error(404, "NOT_FOUND", "The environment variable was not found")
        return document

    def shown(variable: Document, *, decrypt: bool = False) -> Document:
        hidden = variable["type"] == "sensitive" or (variable["type"] != "plain" and not decrypt)
        return {**variable, "value": "" if hidden else variable["value"], "decrypted": not hidden}

    def checked(asked: Document) -> Document:
        target = asked.get("target")
        targets = [target] if isinstance(target, str) else target
        if not asked.get("key") or not isinstance(asked.get("value"), str):
            raise _error(400, "bad_request", "Invalid request: `key` and `value` are required")
        if not isinstance(targets, list) or not targets or not set(targets) <= TARGETS:
            raise _error(400, "bad_request", f"Invalid request: `target` must be of {sorted(TARGETS)}")
        if asked.get("type") not in TYPES:
            raise _error(400, "bad_request", f"Invalid request: `type` must be one of {sorted(TYPES)}")
        return {
            "key": asked["key"],
            "value": asked["value"],
            "type": asked["type"],
            "target": targets,
            "gitBranch": asked.get("gitBranch"),
            "comment": asked.get("comment", ""),
        }

    async def variables(name: str, decrypt: bool = False) -> Document:
        return {"envs": [shown(item, decrypt=decrypt) for item in store.all(kind(name))]}

    async def create(name: str, request: Request, upsert: bool = False) -> JSONResponse:
        asked = checked(
            await json_object(request, {"error": {"code": "bad_request", "message": "Invalid JSON"}})
        )
        with store.transaction():
            clash = next(
                (
                    item
                    for item in store.all(kind(name))
                    if item["key"] == asked["key"]
                    and item["gitBranch"] == asked["gitBranch"]
                    and set(item["target"]) & set(asked["target"])
                ),
                None,
            )
            if clash is not None and not upsert:
                message = "A variable with this name already exists for the target"
                raise _error(400, "ENV_CONFLICT", message, key=asked["key"], target=asked["target"])
            times = {"createdAt": clash["createdAt"] if clash else now() * 1000, "updatedAt": now() * 1000}
            variable_id = clash["id"] if clash else new_id("", 8)
            document = store.put(kind(name), variable_id, {"id": variable_id, **asked, **times})
        return JSONResponse({"created": shown(document), "failed": []}, 201)

    async def read(name: str, variable_id: str) -> Document:
        return shown(found(name, variable_id), decrypt=True)

    async def update(name: str, variable_id: str, request: Request) -> Document:
        present = found(name, variable_id)
        asked = await json_object(request, {"error": {"code": "bad_request", "message": "Invalid JSON"}})
        changed = {**present, **checked({**present, **asked}), "updatedAt": now() * 1000}
        return shown(store.put(kind(name), variable_id, changed))

    async def delete(name: str, variable_id: str) -> Document:
        gone = found(name, variable_id)
        store.delete(kind(name), variable_id)
        return shown(gone)

    async def tokens() -> Document:
        known = store.all(TOKEN)
        return {"tokens": known, "pagination": {"count": len(known), "next": None, "prev": None}}

    async def create_token(request: Request) -> Document:
        asked = await json_object(request, {"error": {"code": "bad_request", "message": "Invalid JSON"}})
        if not isinstance(asked.get("name"), str) or not asked["name"]:
            raise _error(400, "bad_request", "Invalid request: missing required property `name`.")
        value = secrets.token_urlsafe(18)
        return {"token": _add_token(store, value, asked["name"]), "bearerToken": value}

    async def read_token(token_id: str, request: Request) -> Document:
        if token_id == "current":  # noqa: S105 - no token, but the one that asks
            return {"token": store.get(TOKEN, digest(str(token(request))))}
        known = store.find(TOKEN, "id", token_id)
        if known is None:
            raise _error(404, "not_found", "Not found")
        return {"token": known}

    async def delete_token(token_id: str) -> Document:
        if not store.delete_where(TOKEN, "id", token_id):
            raise _error(404, "not_found", "Not found")
        return {"tokenId": token_id}

    routes.add_api_route("/v6/user/tokens", tokens, methods=["GET"])
    routes.add_api_route("/v3/user/tokens", create_token, methods=["POST"])
    routes.add_api_route("/v5/user/tokens/{token_id}", read_token, methods=["GET"])
    routes.add_api_route("/v3/user/tokens/{token_id}", delete_token, methods=["DELETE"])
    for version in ("v9", "v10"):
        base = f"/{version}/projects/{{name}}/env"
        routes.add_api_route(base, variables, methods=["GET"])
        routes.add_api_route(base, create, methods=["POST"])
        routes.add_api_route(f"{base}/{{variable_id}}", read, methods=["GET"])
        routes.add_api_route(f"{base}/{{variable_id}}", update, methods=["PATCH"])
        routes.add_api_route(f"{base}/{{variable_id}}", delete, methods=["DELETE"])
    routes.add_api_route("/v1/projects/{name}/env/{variable_id}", read, methods=["GET"])
    return routes
