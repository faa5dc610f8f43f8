"""Brings the vector stores to the documents of this release (DEP-5).

A store's files carry the name and the SHA-256 of their document as attributes. New and changed documents are
added and awaited before outdated files are taken away, so that a search never misses one; a second run
changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from .config import OpenAISettings
from .errors import CommandError

DOCUMENTS: Final = Path(__file__).parent / "documents"
PROCESSING_SECONDS: Final = 60.0


class SyncError(CommandError):
    """A store can't be brought up to date."""


@dataclass(frozen=True)
class Document:
    """A document of this release."""

    name: str
    digest: str
    content: bytes


def documents(kind: str, root: Path = DOCUMENTS) -> list[Document]:
    """Return the documents for one store; none at all is an error, not an empty store."""
    paths = sorted((root / kind).glob("*.md"))
    if not paths:
        raise SyncError(f"this release has no documents for {kind}")
    contents = [(path.name, path.read_bytes()) for path in paths]
    return [Document(name, hashlib.sha256(content).hexdigest(), content) for name, content in contents]


async def sync(settings: OpenAISettings, client: httpx.AsyncClient | None = None) -> list[str]:
    """Bring every store up to date; return a line for each."""
    key = settings.openai_api_key.get_secret_value()
    async with client or httpx.AsyncClient() as http:
        http.headers["Authorization"] = f"Bearer {key}"
        http.timeout = httpx.Timeout(settings.openai_timeout_seconds)
        return [
            await _Store(http, settings.openai_base_url, store_id, kind).sync()
            for kind, store_id in settings.vector_stores().items()
        ]


@dataclass(frozen=True)
class _Store:
    http: httpx.AsyncClient
    base: str
    store_id: str
    kind: str

    async def sync(self) -> str:
        wanted = {document.digest: document for document in documents(self.kind)}
        present = await self._files()
        missing = [document for digest, document in wanted.items() if digest not in present]
        for document in missing:
            await self._add(document)
        outdated = [file_id for digest, file_id in present.items() if digest not in wanted]
        for file_id in outdated:
            await self._call("DELETE", f"/vector_stores/{self.store_id}/files/{file_id}")
        kept = len(wanted) - len(missing)
        return f"{self.kind}\t{self.store_id}\tadded {len(missing)}, removed {len(outdated)}, kept {kept}"

    async def _files(self) -> dict[str, str]:
        """Return the ids of our files by digest, of those that aren't usable by id; others are let alone."""
        files: dict[str, str] = {}
        query: dict[str, str | int] = {"limit": 100}
        while True:
            page = await self._call("GET", f"/vector_stores/{self.store_id}/files", params=query)
            for item in page["data"]:
                digest = (item.get("attributes") or {}).get("sha256")
                if digest is not None:
                    usable = item.get("status", "completed") == "completed"
                    files[digest if usable else item["id"]] = item["id"]
            if not page.get("has_more") or not page["data"]:
                return files
            query["after"] = page["data"][-1]["id"]

    async def _add(self, document: Document) -> None:
        uploaded = await self._call(
            "POST",
            "/files",
            data={"purpose": "assistants"},
            files={"file": (document.name, document.content, "text/markdown")},
        )
        path = f"/vector_stores/{self.store_id}/files"
        attached = await self._call(
            "POST",
            path,
            json={
                "file_id": uploaded["id"],
                "attributes": {"name": document.name, "sha256": document.digest},
            },
        )
        deadline = time.monotonic() + PROCESSING_SECONDS
        while attached["status"] == "in_progress":
            if time.monotonic() > deadline:
                raise SyncError(f"{self.kind}: {document.name} is still being processed")
            await asyncio.sleep(0.2)
            attached = await self._call("GET", f"{path}/{uploaded['id']}")
        if attached["status"] != "completed":
            raise SyncError(f"{self.kind}: {document.name} ended as {attached['status']}")

    async def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = await self.http.request(method, f"{self.base}{path}", **request)
            response.raise_for_status()
            document: dict[str, Any] = response.json()
        except httpx.HTTPStatusError as error:
            raise SyncError(f"{self.kind}: {method} {path}: status {error.response.status_code}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise SyncError(f"{self.kind}: {method} {path}: {type(error).__name__}") from error
        return document
