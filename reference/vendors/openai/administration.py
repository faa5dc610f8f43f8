"""Administration: keys, usage and costs."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from fastapi import APIRouter, Request

from reference.vendors.requests import json_object
from reference.vendors.settings import OpenAISettings
from reference.vendors.store import Document, Store

from .common import DAY, KEY, NO_JSON, SERVICE_ACCOUNT, USAGE, Limit, add_account, add_key, error, page


def add_key_routes(routes: APIRouter, store: Store, settings: OpenAISettings) -> None:
    """Add the administration of keys.

    A project's key is made with a service account and goes with it: there is no other way at OpenAI.
    """

    def project(project_id: str) -> str:
        if project_id != settings.project:
            raise error(404, f"Project {project_id} not found.", "not_found")
        return project_id

    def shown(key: Document) -> Document:
        base = {"id": key["id"], "name": key["name"], "redacted_value": key["redacted"]}
        if key["project"] is None:
            return {"object": "organization.admin_api_key", **base, "created_at": key["created_at"]}
        account = store.get(SERVICE_ACCOUNT, key["owner"]) if key["owner"] else None
        return {
            "object": "organization.project.api_key",
            **base,
            "created_at": key["created_at"],
            "owner": {"type": "service_account", "service_account": account} if account else {"type": "user"},
        }

    def key_of(project_id: str | None, key_id: str) -> Document:
        key = store.get(KEY, key_id)
        if key is None or key["project"] != project_id:
            raise error(404, f"API key {key_id} not found.", "not_found")
        return key

    @routes.get("/projects")
    async def projects() -> Document:
        item = {
            "id": settings.project,
            "object": "organization.project",
            "name": "agents",
            "status": "active",
        }
        return page([item], 20, None)

    @routes.get("/projects/{project_id}/api_keys")
    async def keys(project_id: str, limit: Limit = 20, after: str | None = None) -> Document:
        mine = [shown(item) for item in store.all(KEY) if item["project"] == project(project_id)]
        return page(mine, limit, after)

    @routes.get("/projects/{project_id}/api_keys/{key_id}")
    async def read(project_id: str, key_id: str) -> Document:
        return shown(key_of(project(project_id), key_id))

    @routes.delete("/projects/{project_id}/api_keys/{key_id}")
    async def delete(project_id: str, key_id: str) -> Document:
        if key_of(project(project_id), key_id)["owner"]:
            raise error(400, "API keys of a service account go with the service account.", "invalid_request")
        store.delete(KEY, key_id)
        return {"object": "organization.project.api_key.deleted", "id": key_id, "deleted": True}

    @routes.get("/projects/{project_id}/service_accounts")
    async def accounts(project_id: str, limit: Limit = 20, after: str | None = None) -> Document:
        mine = [item for item in store.all(SERVICE_ACCOUNT) if item["project"] == project(project_id)]
        return page(mine, limit, after)

    @routes.post("/projects/{project_id}/service_accounts")
    async def create_account(project_id: str, request: Request) -> Document:
        asked = await json_object(request, NO_JSON)
        if not asked.get("name"):
            raise error(400, "Missing required parameter: 'name'.", "missing_required_parameter", "name")
        value = f"sk-svcacct-{secrets.token_urlsafe(36)}"
        with store.transaction():
            account = add_account(store, project(project_id), asked["name"])
            made = add_key(store, value, project=project_id, name="Secret Key", owner=account["id"])
        return {
            **account,
            "api_key": {
                "object": "organization.project.service_account.api_key",
                "id": made["id"],
                "name": made["name"],
                "created_at": made["created_at"],
                "value": value,
            },
        }

    @routes.delete("/projects/{project_id}/service_accounts/{account_id}")
    async def delete_account(project_id: str, account_id: str) -> Document:
        project(project_id)
        with store.transaction():
            if not store.delete(SERVICE_ACCOUNT, account_id):
                raise error(404, f"Service account {account_id} not found.", "not_found")
            for item in store.all(KEY):
                if item["owner"] == account_id:
                    store.delete(KEY, item["id"])
        return {"object": "organization.project.service_account.deleted", "id": account_id, "deleted": True}

    @routes.get("/admin_api_keys")
    async def admin_keys(limit: Limit = 20, after: str | None = None) -> Document:
        return page([shown(item) for item in store.all(KEY) if item["project"] is None], limit, after)

    @routes.post("/admin_api_keys")
    async def create_admin_key(request: Request) -> Document:
        asked = await json_object(request, NO_JSON)
        value = f"sk-admin-{secrets.token_urlsafe(36)}"
        made = add_key(store, value, project=None, name=str(asked.get("name", "")))
        return {**shown(made), "value": value}

    @routes.delete("/admin_api_keys/{key_id}")
    async def delete_admin_key(key_id: str) -> Document:
        key_of(None, key_id)
        store.delete(KEY, key_id)
        return {"id": key_id, "object": "organization.admin_api_key.deleted", "deleted": True}


def add_usage_routes(routes: APIRouter, store: Store, settings: OpenAISettings) -> None:
    """Add usage and costs, a bucket a day."""

    def buckets(start: int, result: Callable[[Document], Document]) -> Document:
        days: dict[int, list[Document]] = {}
        for usage in store.all(USAGE):
            if usage["start"] + DAY > start:
                days.setdefault(usage["start"], []).append(result(usage))
        data = [
            {"object": "bucket", "start_time": day, "end_time": day + DAY, "results": results}
            for day, results in sorted(days.items())
        ]
        return {"object": "page", "data": data, "has_more": False, "next_page": None}

    @routes.get("/usage/completions")
    async def usage(start_time: int) -> Document:
        return buckets(
            start_time,
            lambda item: {
                "object": "organization.usage.completions.result",
                "input_tokens": item["input_tokens"],
                "output_tokens": item["output_tokens"],
                "num_model_requests": item["requests"],
                "project_id": item["project"],
                "model": item["model"],
            },
        )

    @routes.get("/costs")
    async def costs(start_time: int) -> Document:
        def cost(item: Document) -> Document:
            price = settings.models[item["model"]]
            value = (item["input_tokens"] * price.input + item["output_tokens"] * price.output) / 1_000_000
            return {
                "object": "organization.costs.result",
                "amount": {"value": value, "currency": "usd"},
                "line_item": item["model"],
                "project_id": item["project"],
            }

        return buckets(start_time, cost)
