"""Supabase: the data API (PostgREST) of one project, and its management: API keys, secrets, functions."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile

from .errors import VendorError
from .requests import json_object, token
from .settings import SupabaseSeed, SupabaseSettings, Table
from .store import Document, Store, digest, new_id, now

KEY = "supabase.key"
TOKEN = "supabase.token"  # noqa: S105 - a kind of document
SECRET = "supabase.secret"  # noqa: S105 - a kind of document
FUNCTION = "supabase.function"
ROW = "supabase.row"

_NOT_FILTERS = {"select", "order", "limit", "offset", "on_conflict", "columns"}
_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda left, right: left == right,
    "neq": lambda left, right: left != right,
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
}


def seed(store: Store, settings: SupabaseSettings, keys: SupabaseSeed) -> None:
    """Put the first keys and tokens in."""
    for value in keys.service_role_keys:
        _add_key(store, value, "service_role", "secret")
    for value in keys.management_tokens:
        store.put(TOKEN, digest(value), {})


def _add_key(store: Store, value: str, name: str, kind: str, description: str = "") -> Document:
    key_id = new_id("", 16)
    return store.put(
        KEY,
        key_id,
        {
            "id": key_id,
            "digest": digest(value),
            "name": name,
            "description": description,
            "type": kind,
            "prefix": value[: min(16, len(value) // 2)],
            "inserted_at": _time(),
        },
    )


def _time() -> str:
    return datetime.now(UTC).isoformat()


def router(store: Store, settings: SupabaseSettings) -> APIRouter:
    """Return the project's data API below `/rest/v1` and the management API below `/v1`."""
    routes = APIRouter()
    routes.include_router(_data(store, settings))
    routes.include_router(_management(store, settings))
    return routes


def _data(store: Store, settings: SupabaseSettings) -> APIRouter:  # noqa: PLR0915 - handlers
    def service_role(request: Request) -> None:
        apikey = request.headers.get("apikey")
        if apikey is None:
            hint = "No `apikey` request header or url param was found."
            raise VendorError(401, {"message": "No API key found in request", "hint": hint})
        key = store.find(KEY, "digest", digest(apikey))
        bearer = token(request)
        if key is None or bearer is None or store.find(KEY, "digest", digest(bearer)) is None:
            hint = "Double check your Supabase `anon` or `service_role` API key."
            raise VendorError(401, {"message": "Invalid API key", "hint": hint})
        if key["type"] != "secret":
            raise VendorError(403, {"code": "42501", "message": "permission denied for table"})

    routes = APIRouter(prefix="/rest/v1", dependencies=[Depends(service_role)])

    def table(name: str) -> Table:
        if name not in settings.tables:
            message = f"Could not find the table 'public.{name}' in the schema cache"
            raise VendorError(404, {"code": "PGRST205", "details": None, "hint": None, "message": message})
        return settings.tables[name]

    def row_id(definition: Table, row: Document) -> str:
        return "\x1f".join(str(row[column]) for column in definition.key)

    def kind(name: str) -> str:
        return f"{ROW}/{name}"

    def answer(request: Request, rows: list[Document], columns: list[str], created: bool = False) -> Response:
        if "return=representation" in request.headers.get("prefer", ""):
            return JSONResponse([_select(row, columns) for row in rows], 201 if created else 200)
        return Response(status_code=201 if created else 204)

    @routes.get("/{name}")
    async def read(name: str, request: Request) -> Response:
        definition = table(name)
        rows = _filter(definition, request, store.all(kind(name)))
        rows = _order(definition, request.query_params.get("order"), rows)
        start = int(request.query_params.get("offset", 0))
        limit = int(request.query_params.get("limit", len(rows)))
        page = [_select(row, _columns(definition, request)) for row in rows[start : start + limit]]
        if "vnd.pgrst.object+json" in request.headers.get("accept", ""):
            if len(page) != 1:
                message = "Cannot coerce the result to a single JSON object"
                raise VendorError(406, {"code": "PGRST116", "message": message, "hint": None})
            return JSONResponse(page[0], media_type="application/vnd.pgrst.object+json")
        last = f"{start}-{start + len(page) - 1}" if page else "*"
        return JSONResponse(page, headers={"Content-Range": f"{last}/*"})

    @routes.post("/{name}")
    async def insert(name: str, request: Request) -> Response:
        definition = table(name)
        written = await _rows(request, definition)
        prefer = request.headers.get("prefer", "")
        target = request.query_params.get("on_conflict")
        if target is not None and set(target.split(",")) != set(definition.key):
            message = "there is no unique or exclusion constraint matching the ON CONFLICT specification"
            raise VendorError(400, {"code": "42P10", "message": message, "details": None, "hint": None})
        saved: list[Document] = []
        with store.transaction():
            for row in written:
                missing = [column for column in definition.key if row.get(column) is None]
                if missing:
                    message = f'null value in column "{missing[0]}" violates not-null constraint'
                    raise VendorError(400, {"code": "23502", "message": message, "hint": None})
                present = store.get(kind(name), row_id(definition, row))
                if present is not None and "resolution=ignore-duplicates" in prefer:
                    continue
                if present is not None and "resolution=merge-duplicates" not in prefer:
                    message = f'duplicate key value violates unique constraint "{name}_key"'
                    raise VendorError(409, {"code": "23505", "message": message, "hint": None})
                fresh = {"id": new_id("", 16), "created_at": _time(), **definition.defaults}
                merged = {**(present or fresh), **row, "updated_at": _time()}
                known = {column: merged.get(column) for column in definition.columns}
                saved.append(store.put(kind(name), row_id(definition, row), known))
        return answer(request, saved, _columns(definition, request), created=True)

    @routes.patch("/{name}")
    async def update(name: str, request: Request) -> Response:
        definition = table(name)
        changes = (await _rows(request, definition))[0]
        saved: list[Document] = []
        with store.transaction():
            for row in _filter(definition, request, store.all(kind(name))):
                known = set(definition.columns)
                changed = {**row, **changes, **({"updated_at": _time()} if "updated_at" in known else {})}
                if row_id(definition, changed) != row_id(definition, row):
                    store.delete(kind(name), row_id(definition, row))
                saved.append(store.put(kind(name), row_id(definition, changed), changed))
        return answer(request, saved, _columns(definition, request))

    @routes.delete("/{name}")
    async def delete(name: str, request: Request) -> Response:
        definition = table(name)
        with store.transaction():
            gone = _filter(definition, request, store.all(kind(name)))
            for row in gone:
                store.delete(kind(name), row_id(definition, row))
        return answer(request, gone, _columns(definition, request))

    return routes


async def _rows(request: Request, table: Table) -> list[Document]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    rows = body if isinstance(body, list) else [body]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise VendorError(400, {"code": "PGRST102", "message": "Empty or invalid json", "hint": None})
    for column in {column for row in rows for column in row}:
        _known(table, column, "PGRST204")
    return rows


def _known(table: Table, column: str, code: str = "42703") -> str:
    if column not in table.columns:
        message = f"column {column} does not exist"
        raise VendorError(400, {"code": code, "details": None, "hint": None, "message": message})
    return column


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _columns(table: Table, request: Request) -> list[str]:
    asked = request.query_params.get("select", "*")
    if asked == "*":
        return list(table.columns)
    return [_known(table, column.strip()) for column in asked.split(",")]


def _select(row: Document, columns: list[str]) -> Document:
    return {column: row.get(column) for column in columns}


def _filter(table: Table, request: Request, rows: list[Document]) -> list[Document]:
    for column, expression in request.query_params.multi_items():
        if column in _NOT_FILTERS:
            continue
        _known(table, column)
        rows = [row for row in rows if _matches(row.get(column), expression)]
    return rows


def _matches(value: Any, expression: str) -> bool:
    if expression.startswith("not."):
        return not _matches(value, expression.removeprefix("not."))
    operator, _, operand = expression.partition(".")
    if operator == "is":
        return _text(value) == operand.lower()
    if operator == "in":
        members = re.findall(r'"([^"]*)"|([^,()]+)', operand.removeprefix("(").removesuffix(")"))
        return _text(value) in {quoted or plain.strip() for quoted, plain in members}
    if operator in {"like", "ilike"}:
        pattern = re.escape(operand).replace(r"\*", ".*").replace("%", ".*")
        return re.fullmatch(pattern, _text(value), re.IGNORECASE if operator == "ilike" else 0) is not None
    if operator not in _COMPARISONS:
        message = f'"failed to parse filter ({expression})"'
        raise VendorError(400, {"code": "PGRST100", "message": message, "details": None, "hint": None})
    return value is not None and _COMPARISONS[operator](_text(value), operand)


def _order(table: Table, order: str | None, rows: list[Document]) -> list[Document]:
    for part in reversed(order.split(",") if order else []):
        column, _, direction = part.partition(".")
        _known(table, column)
        rows = sorted(rows, key=lambda row: _text(row.get(column)), reverse=direction.startswith("desc"))
    return rows


def _management(store: Store, settings: SupabaseSettings) -> APIRouter:
    def access_token(request: Request, ref: str) -> None:
        value = token(request)
        if value is None or store.get(TOKEN, digest(value)) is None:
            raise VendorError(401, {"message": "Unauthorized"})
        if ref != settings.project:
            raise VendorError(404, {"message": "Project not found"})

    routes = APIRouter(prefix="/v1/projects/{ref}", dependencies=[Depends(access_token)])

    def shown(key: Document, value: str | None = None) -> Document:
        hidden = f"{key['prefix']}{'·' * 8}"
        kept = {name: key[name] for name in ("id", "name", "type", "prefix", "inserted_at")}
        described = {"description": key.get("description") or None}
        return {**kept, **described, "api_key": value or hidden, "hash": key["digest"]}

    @routes.get("/api-keys")
    async def keys() -> list[Document]:
        return [shown(key) for key in store.all(KEY)]

    @routes.post("/api-keys", status_code=201)
    async def create_key(request: Request, reveal: bool = False) -> Document:
        asked = await json_object(request, {"message": "body must be an object"})
        kind, name = asked.get("type"), asked.get("name")
        if kind not in {"secret", "publishable"} or not re.fullmatch(r"[a-z_][a-z0-9_]{3,63}", str(name)):
            raise VendorError(400, {"message": "type must be secret or publishable, name [a-z0-9_]{4,64}"})
        if store.find(KEY, "name", name):
            raise VendorError(409, {"message": f"API key with name {name} already exists"})
        value = f"sb_{kind}_{secrets.token_urlsafe(24)}"
        made = _add_key(store, value, str(name), str(kind), str(asked.get("description") or ""))
        return shown(made, value if reveal else None)

    @routes.get("/api-keys/{key_id}")
    async def key(key_id: str) -> Document:
        return shown(_found(store.get(KEY, key_id), "API key not found"))

    @routes.delete("/api-keys/{key_id}")
    async def delete_key(key_id: str) -> Document:
        gone = _found(store.get(KEY, key_id), "API key not found")
        store.delete(KEY, key_id)
        return shown(gone)

    @routes.get("/secrets")
    async def read_secrets() -> list[Document]:
        return sorted(store.all(SECRET), key=lambda secret: str(secret["name"]))

    @routes.post("/secrets", status_code=201)
    async def write_secrets(request: Request) -> Response:
        written = await request.json()
        if not isinstance(written, list) or not all(
            isinstance(item, dict) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(item.get("name")))
            for item in written
        ):
            raise VendorError(400, {"message": "body must be a list of {name, value}"})
        if any(str(item["name"]).startswith("SUPABASE_") for item in written):
            raise VendorError(400, {"message": "Secret name must not start with the SUPABASE_ prefix"})
        with store.transaction():
            for item in written:
                document = {
                    "name": item["name"],
                    "value": digest(str(item.get("value", ""))),
                    "updated_at": _time(),
                }
                store.put(SECRET, str(item["name"]), document)
        return Response(status_code=201)

    @routes.delete("/secrets")
    async def delete_secrets(request: Request) -> Response:
        for name in await request.json():
            store.delete(SECRET, str(name))
        return Response(status_code=200)

    @routes.get("/functions")
    async def functions() -> list[Document]:
        return store.all(FUNCTION)

    @routes.post("/functions/deploy", status_code=201)
    async def deploy(
        request: Request, slug: Annotated[str, Query(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    ) -> Document:
        form = await request.form()
        sources = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
        if not sources:
            raise VendorError(400, {"message": "at least one file is required"})
        content = b"".join([await part.read() for part in sources])
        present = store.get(FUNCTION, slug)
        document = {
            "id": present["id"] if present else new_id("", 16),
            "slug": slug,
            "name": slug,
            "status": "ACTIVE",
            "version": (present["version"] if present else 0) + 1,
            "created_at": present["created_at"] if present else now() * 1000,
            "updated_at": now() * 1000,
            "verify_jwt": True,
            "ezbr_sha256": digest(content.decode(errors="replace")),
        }
        return store.put(FUNCTION, slug, document)

    @routes.get("/functions/{slug}")
    async def function(slug: str) -> Document:
        return _found(store.get(FUNCTION, slug), "Function not found")

    @routes.delete("/functions/{slug}")
    async def delete_function(slug: str) -> Response:
        _found(store.get(FUNCTION, slug), "Function not found")
        store.delete(FUNCTION, slug)
        return Response(status_code=200)

    return routes


def _found(document: Document | None, message: str) -> Document:
    if document is None:
        raise VendorError(404, {"message": message})
    return document
