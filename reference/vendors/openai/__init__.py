"""OpenAI: responses, models, files, vector stores, voice sessions; administration of keys, usage, costs."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from reference.vendors.settings import OpenAISeed, OpenAISettings
from reference.vendors.store import Store

from . import administration, files, responses
from .common import VECTOR_STORE, add_account, add_key, caller


def seed(store: Store, settings: OpenAISettings, keys: OpenAISeed) -> None:
    """Put the first keys and vector stores in; a key of the service belongs to a service account."""
    for value in keys.admin_keys:
        add_key(store, value, project=None, name="operations")
    for value in keys.api_keys:
        account = add_account(store, settings.project, "agents-service")
        add_key(store, value, project=settings.project, name="Secret Key", owner=account["id"])
    for store_id, name in settings.vector_stores.items():
        store.put(VECTOR_STORE, store_id, files.vector_store(store_id, name, {}))


def router(store: Store, settings: OpenAISettings) -> APIRouter:
    """Return OpenAI's API below `/v1`."""
    service = APIRouter(prefix="/v1", dependencies=[Depends(caller(store, administrator=False))])
    responses.add_routes(service, store, settings)
    files.add_file_routes(service, store)
    files.add_vector_store_routes(service, store)
    administrators = APIRouter(
        prefix="/v1/organization", dependencies=[Depends(caller(store, administrator=True))]
    )
    administration.add_key_routes(administrators, store, settings)
    administration.add_usage_routes(administrators, store, settings)
    routes = APIRouter()
    routes.include_router(administrators)
    routes.include_router(service)
    return routes
