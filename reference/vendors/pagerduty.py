"""PagerDuty: events (v2) that open, acknowledge and resolve incidents, and the incidents themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from .errors import VendorError
from .requests import json_object
from .settings import PagerDutySeed, PagerDutySettings
from .store import Document, Store, digest, new_id

ROUTING_KEY = "pagerduty.routing_key"
TOKEN = "pagerduty.token"  # noqa: S105 - a kind of document
INCIDENT = "pagerduty.incident"

_STATUS = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}
_SEVERITIES = {"critical": "high", "error": "high", "warning": "low", "info": "low"}
_INVALID = {"status": "invalid event", "message": "Event object is invalid"}


def seed(store: Store, keys: PagerDutySeed) -> None:
    """Put the first keys in."""
    for value in keys.routing_keys:
        store.put(ROUTING_KEY, digest(value), {})
    for value in keys.tokens:
        store.put(TOKEN, digest(value), {})


def router(store: Store, settings: PagerDutySettings) -> APIRouter:
    """Return the events API at `/v2/enqueue`, and the REST API."""
    routes = APIRouter()

    def open_incident(dedup_key: str) -> Document | None:
        found = (item for item in store.all(INCIDENT) if item["incident_key"] == dedup_key)
        return next((item for item in found if item["status"] != "resolved"), None)

    @routes.post("/v2/enqueue")
    async def enqueue(request: Request) -> JSONResponse:
        event = await json_object(request, {**_INVALID, "errors": ["JSON is invalid"]})
        errors = _problems(store, event)
        if errors:
            return JSONResponse({**_INVALID, "errors": errors}, 400)
        dedup_key = str(event.get("dedup_key") or new_id("", 16))
        with store.transaction():
            present = open_incident(dedup_key)
            if event["event_action"] == "trigger":
                if present is None:
                    _open(store, settings, dedup_key, event)
            elif present is not None:
                changed = {**present, "status": _STATUS[event["event_action"]], "updated_at": _time()}
                store.put(INCIDENT, present["id"], changed)
        return JSONResponse({"status": "success", "message": "Event processed", "dedup_key": dedup_key}, 202)

    def access(request: Request) -> None:
        scheme, _, value = request.headers.get("authorization", "").partition(" token=")
        if scheme != "Token" or store.get(TOKEN, digest(value.strip())) is None:
            raise VendorError(401, {"error": {"message": "Unauthorized", "code": 2006}})

    @routes.get("/incidents", dependencies=[Depends(access)])
    async def incidents(
        statuses: Annotated[list[str] | None, Query(alias="statuses[]")] = None,
        incident_key: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 25,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> Document:
        found = [
            item
            for item in store.all(INCIDENT)
            if (not statuses or item["status"] in statuses)
            and (incident_key is None or item["incident_key"] == incident_key)
        ]
        page = found[offset : offset + limit]
        return {"incidents": page, "limit": limit, "offset": offset, "more": offset + limit < len(found)}

    @routes.get("/incidents/{incident_id}", dependencies=[Depends(access)])
    async def incident(incident_id: str) -> Document:
        found = store.get(INCIDENT, incident_id)
        if found is None:
            raise VendorError(404, {"error": {"message": "Not Found", "code": 2100}})
        return {"incident": found}

    return routes


def _time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _problems(store: Store, event: Document) -> list[str]:
    problems = []
    if store.get(ROUTING_KEY, digest(str(event.get("routing_key", "")))) is None:
        problems.append("'routing_key' is missing or invalid")
    action = event.get("event_action")
    if action not in _STATUS:
        problems.append(f"'event_action' must be one of {', '.join(_STATUS)}")
    if action in {"acknowledge", "resolve"} and not event.get("dedup_key"):
        problems.append("'dedup_key' is missing or blank")
    if action == "trigger":
        payload = event.get("payload")
        fields = payload if isinstance(payload, dict) else {}
        problems += [
            f"'payload.{name}' is missing or blank" for name in ("summary", "source") if not fields.get(name)
        ]
        if fields.get("severity") not in _SEVERITIES:
            problems.append(f"'payload.severity' must be one of {', '.join(_SEVERITIES)}")
    return problems


def _open(store: Store, settings: PagerDutySettings, dedup_key: str, event: Document) -> None:
    number = len(store.all(INCIDENT)) + 1
    incident_id = new_id("Q", 7).upper()
    store.put(
        INCIDENT,
        incident_id,
        {
            "id": incident_id,
            "type": "incident",
            "incident_number": number,
            "title": event["payload"]["summary"],
            "incident_key": dedup_key,
            "status": "triggered",
            "urgency": _SEVERITIES[event["payload"]["severity"]],
            "service": {"summary": settings.service, "type": "service_reference"},
            "created_at": _time(),
            "updated_at": _time(),
            "body": {"type": "incident_body", "details": event["payload"].get("custom_details") or {}},
        },
    )
