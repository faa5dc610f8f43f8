"""Files and vector stores."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from reference.vendors.requests import json_object
from reference.vendors.store import Document, Store, new_id, now

from .common import FILE, NO_JSON, VECTOR_STORE, Caller, Limit, error, page


def vector_store(store_id: str, name: str | None, metadata: dict[str, Any]) -> Document:
    """Return a new vector store."""
    return {
        "id": store_id,
        "object": "vector_store",
        "created_at": now(),
        "name": name,
        "usage_bytes": 0,
        "status": "completed",
        "expires_after": None,
        "expires_at": None,
        "last_active_at": now(),
        "metadata": metadata,
    }


def add_file_routes(routes: APIRouter, store: Store) -> None:
    """Add the files of a project."""

    def file_of(key: Document, file_id: str) -> Document:
        found = store.get(FILE, file_id)
        if found is None or found["project"] != key["project"]:
            raise error(404, f"No such File object: {file_id}", param="id")
        return found

    def shown(found: Document) -> Document:
        return {name: value for name, value in found.items() if name not in {"project", "text"}}

    @routes.post("/files")
    async def upload(
        key: Caller, file: Annotated[UploadFile, File()], purpose: Annotated[str, Form()]
    ) -> Document:
        content = await file.read()
        file_id = new_id("file-")
        document = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": now(),
            "filename": file.filename,
            "purpose": purpose,
            "status": "processed",
            "project": key["project"],
            "text": content.decode(errors="replace"),
        }
        return shown(store.put(FILE, file_id, document))

    @routes.get("/files")
    async def files(key: Caller, limit: Limit = 100, after: str | None = None) -> Document:
        mine = [shown(item) for item in store.all(FILE) if item["project"] == key["project"]]
        return page(mine, limit, after, newest_first=True)

    @routes.get("/files/{file_id}")
    async def file(key: Caller, file_id: str) -> Document:
        return shown(file_of(key, file_id))

    @routes.get("/files/{file_id}/content")
    async def content(key: Caller, file_id: str) -> Response:
        return Response(file_of(key, file_id)["text"], media_type="application/octet-stream")

    @routes.delete("/files/{file_id}")
    async def delete(key: Caller, file_id: str) -> Document:
        file_of(key, file_id)
        store.delete(FILE, file_id)
        return {"id": file_id, "object": "file", "deleted": True}


def add_vector_store_routes(routes: APIRouter, store: Store) -> None:  # noqa: PLR0915 - handlers
    """Add vector stores and the files in them."""

    def kind(store_id: str) -> str:
        return f"{VECTOR_STORE}/{store_id}/file"

    def shown(document: Document) -> Document:
        held = store.all(kind(document["id"]))
        counts = {"in_progress": 0, "completed": len(held), "failed": 0, "cancelled": 0, "total": len(held)}
        return {**document, "file_counts": counts, "usage_bytes": sum(item["usage_bytes"] for item in held)}

    def found(store_id: str) -> Document:
        document = store.get(VECTOR_STORE, store_id)
        if document is None:
            raise error(404, f"Vector store with id '{store_id}' not found.", param="vector_store_id")
        return document

    def attached(store_id: str, file_id: str) -> Document:
        found(store_id)
        document = store.get(kind(store_id), file_id)
        if document is None:
            raise error(404, f"No file found with id '{file_id}' in vector store '{store_id}'.")
        return document

    def attach(store_id: str, file_id: Any, attributes: Any) -> Document:
        held = store.get(FILE, str(file_id))
        if held is None:
            raise error(404, f"No such File object: {file_id}", param="file_id")
        document = {
            "id": file_id,
            "object": "vector_store.file",
            "created_at": now(),
            "usage_bytes": held["bytes"],
            "vector_store_id": store_id,
            "status": "completed",
            "last_error": None,
            "attributes": attributes or {},
        }
        return store.put(kind(store_id), str(file_id), document)

    @routes.post("/vector_stores")
    async def create(request: Request) -> Document:
        asked = await json_object(request, NO_JSON)
        store_id = new_id("vs_")
        store.put(
            VECTOR_STORE, store_id, vector_store(store_id, asked.get("name"), asked.get("metadata") or {})
        )
        for file_id in asked.get("file_ids") or []:
            attach(store_id, file_id, None)
        return shown(found(store_id))

    @routes.get("/vector_stores")
    async def stores(limit: Limit = 20, after: str | None = None) -> Document:
        return page([shown(item) for item in store.all(VECTOR_STORE)], limit, after, newest_first=True)

    @routes.get("/vector_stores/{store_id}")
    async def read(store_id: str) -> Document:
        return shown(found(store_id))

    @routes.post("/vector_stores/{store_id}")
    async def modify(store_id: str, request: Request) -> Document:
        asked = await json_object(request, NO_JSON)
        changes: Document = {
            name: asked[name] for name in ("name", "metadata", "expires_after") if name in asked
        }
        return shown(store.put(VECTOR_STORE, store_id, {**found(store_id), **changes}))

    @routes.delete("/vector_stores/{store_id}")
    async def delete(store_id: str) -> Document:
        found(store_id)
        with store.transaction():
            store.delete(VECTOR_STORE, store_id)
            for item in store.all(kind(store_id)):
                store.delete(kind(store_id), item["id"])
        return {"id": store_id, "object": "vector_store.deleted", "deleted": True}

    @routes.post("/vector_stores/{store_id}/files")
    async def add(store_id: str, request: Request) -> Document:
        asked = await json_object(request, NO_JSON)
        found(store_id)
        return attach(store_id, asked.get("file_id"), asked.get("attributes"))

    @routes.get("/vector_stores/{store_id}/files")
    async def files(store_id: str, limit: Limit = 20, after: str | None = None) -> Document:
        found(store_id)
        return page(store.all(kind(store_id)), limit, after, newest_first=True)

    @routes.get("/vector_stores/{store_id}/files/{file_id}")
    async def file(store_id: str, file_id: str) -> Document:
        return attached(store_id, file_id)

    @routes.delete("/vector_stores/{store_id}/files/{file_id}")
    async def detach(store_id: str, file_id: str) -> Document:
        attached(store_id, file_id)
        store.delete(kind(store_id), file_id)
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}

    @routes.post("/vector_stores/{store_id}/search")
    async def search(store_id: str, request: Request) -> Document:
        asked = await json_object(request, NO_JSON)
        found(store_id)
        query = str(asked.get("query", ""))
        words = set(query.lower().split())
        hits = []
        for item in store.all(kind(store_id)):
            held = store.get(FILE, item["id"])
            text = held["text"] if held else ""
            score = len(words & set(text.lower().split())) / len(words) if words else 0.0
            if held and score:
                hits.append(
                    {
                        "file_id": item["id"],
                        "filename": held["filename"],
                        "score": score,
                        "attributes": item["attributes"],
                        "content": [{"type": "text", "text": text[:800]}],
                    }
                )
        hits.sort(key=lambda hit: -float(hit["score"]))
        return {
            "object": "vector_store.search_results.page",
            "search_query": query,
            "data": hits[: int(asked.get("max_num_results", 10))],
            "has_more": False,
            "next_page": None,
        }
