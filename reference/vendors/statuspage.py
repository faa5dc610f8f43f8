"""Statuspage: incidents and components of one page."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Depends, Request

from .errors import VendorError
from .requests import json_object, token
from .settings import StatuspageSettings, TokenSeed
from .store import Document, Store, digest, new_id

TOKEN = "statuspage.token"  # noqa: S105 - a kind of document
INCIDENT = "statuspage.incident"
COMPONENT = "statuspage.component"

STATUSES = ("investigating", "identified", "monitoring", "resolved")
MAINTENANCE_STATUSES = ("scheduled", "in_progress", "verifying", "completed")
COMPONENT_STATUSES = (
    "operational",
    "under_maintenance",
    "degraded_performance",
    "partial_outage",
    "major_outage",
)
_FIELDS = (
    "name",
    "status",
    "impact_override",
    "scheduled_for",
    "scheduled_until",
    "metadata",
    "component_ids",
    "components",
)
_NO_JSON = {"error": "Invalid request body"}


def seed(store: Store, settings: StatuspageSettings, keys: TokenSeed) -> None:
    """Put the first tokens, and the page's components, in."""
    for value in keys.tokens:
        store.put(TOKEN, digest(value), {})
    for name in settings.components:
        component_id = digest(name)[:12]
        component = {"id": component_id, "page_id": settings.page, "name": name, "status": "operational"}
        store.put(COMPONENT, component_id, component)


def router(store: Store, settings: StatuspageSettings) -> APIRouter:  # noqa: PLR0915 - handlers
    """Return the API below `/v1/pages`."""

    def known(request: Request) -> None:
        value = token(request, "OAuth")
        if value is None or store.get(TOKEN, digest(value)) is None:
            raise VendorError(401, {"error": "Could not authenticate"})

    def access(request: Request, page: str) -> None:
        known(request)
        if page != settings.page:
            raise VendorError(404, {"error": "Not found"})

    everything = APIRouter(prefix="/v1/pages")
    routes = APIRouter(prefix="/{page}", dependencies=[Depends(access)])

    @everything.get("", dependencies=[Depends(known)])
    async def pages() -> list[Document]:
        return [{"id": settings.page, "name": settings.page}]

    def found(kind: str, document_id: str) -> Document:
        document = store.get(kind, document_id)
        if document is None:
            raise VendorError(404, {"error": "Not found"})
        return document

    def write(present: Document, asked: Document) -> Document:
        changes = {name: asked[name] for name in _FIELDS if name in asked}
        merged = {**present, **changes, "updated_at": _time()}
        if not merged.get("name"):
            raise VendorError(422, {"error": ["Name can't be blank"]})
        accepted = MAINTENANCE_STATUSES if merged.get("scheduled_for") else STATUSES
        if merged["status"] not in accepted:
            raise VendorError(422, {"error": [f"Status must be one of {', '.join(accepted)}"]})
        if "body" in asked or "status" in asked:
            update = {
                "id": new_id("", 6),
                "incident_id": merged["id"],
                "status": merged["status"],
                "body": asked.get("body", ""),
                "created_at": _time(),
            }
            merged["incident_updates"] = [update, *merged["incident_updates"]]
        if merged["status"] in {"resolved", "completed"} and not merged.get("resolved_at"):
            merged["resolved_at"] = _time()
        for component_id, status in (asked.get("components") or {}).items():
            if status not in COMPONENT_STATUSES:
                raise VendorError(422, {"error": [f"Status must be one of {', '.join(COMPONENT_STATUSES)}"]})
            store.put(COMPONENT, component_id, {**found(COMPONENT, component_id), "status": status})
        return store.put(INCIDENT, merged["id"], merged)

    async def incident_of(request: Request) -> Document:
        asked = (await json_object(request, _NO_JSON)).get("incident")
        if not isinstance(asked, dict):
            raise VendorError(422, {"error": ["incident is missing"]})
        return asked

    @routes.get("/incidents")
    async def incidents() -> list[Document]:
        return list(reversed(store.all(INCIDENT)))

    @routes.get("/incidents/unresolved")
    async def unresolved() -> list[Document]:
        closed = {"resolved", "completed"}
        return [item for item in reversed(store.all(INCIDENT)) if item["status"] not in closed]

    @routes.post("/incidents", status_code=201)
    async def create(request: Request) -> Document:
        asked = await incident_of(request)
        fresh: Document = {
            "id": new_id("", 6),
            "page_id": settings.page,
            "status": "scheduled" if asked.get("scheduled_for") else "investigating",
            "created_at": _time(),
            "resolved_at": None,
            "incident_updates": [],
        }
        with store.transaction():
            return write(fresh, {"status": fresh["status"], **asked})

    @routes.get("/incidents/{incident_id}")
    async def read(incident_id: str) -> Document:
        return found(INCIDENT, incident_id)

    @routes.patch("/incidents/{incident_id}")
    async def update(incident_id: str, request: Request) -> Document:
        asked = await incident_of(request)
        with store.transaction():
            return write(found(INCIDENT, incident_id), asked)

    @routes.delete("/incidents/{incident_id}")
    async def delete(incident_id: str) -> Document:
        gone = found(INCIDENT, incident_id)
        store.delete(INCIDENT, incident_id)
        return gone

    @routes.get("/components")
    async def components() -> list[Document]:
        return store.all(COMPONENT)

    @routes.patch("/components/{component_id}")
    async def component(component_id: str, request: Request) -> Document:
        asked = (await json_object(request, _NO_JSON)).get("component") or {}
        if asked.get("status") not in COMPONENT_STATUSES:
            raise VendorError(422, {"error": [f"Status must be one of {', '.join(COMPONENT_STATUSES)}"]})
        return store.put(
            COMPONENT, component_id, {**found(COMPONENT, component_id), "status": asked["status"]}
        )

    everything.include_router(routes)
    return everything


def _time() -> str:
    return datetime.now(UTC).isoformat()
