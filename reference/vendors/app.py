"""The double's application: a router a vendor, each below its prefix."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from . import openai, pagerduty, slack, statuspage, supabase, vercel
from .errors import VendorError
from .faults import FaultMiddleware, Faults
from .settings import Seed, Settings
from .store import Store

_SEEDED = "seeded"


def seed_store(store: Store, settings: Settings, seed: Seed) -> None:
    """Put the first keys and fixtures in, once in the life of a database."""
    with store.transaction():
        if store.get(_SEEDED, _SEEDED) is not None:
            return
        openai.seed(store, settings.openai, seed.openai)
        supabase.seed(store, settings.supabase, seed.supabase)
        vercel.seed(store, seed.vercel)
        slack.seed(store, seed.slack)
        pagerduty.seed(store, seed.pagerduty)
        statuspage.seed(store, settings.statuspage, seed.statuspage)
        store.put(_SEEDED, _SEEDED, {})


def create_app(store: Store, settings: Settings, faults: Faults) -> FastAPI:
    """Return the application of the vendors' port."""
    app = FastAPI(title="vendors", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(FaultMiddleware, faults=faults)
    app.include_router(openai.router(store, settings.openai), prefix="/openai")
    app.include_router(supabase.router(store, settings.supabase), prefix="/supabase")
    app.include_router(vercel.router(store, settings.vercel), prefix="/vercel")
    app.include_router(slack.router(store, settings.slack), prefix="/slack")
    app.include_router(pagerduty.router(store, settings.pagerduty), prefix="/pagerduty")
    app.include_router(statuspage.router(store, settings.statuspage), prefix="/statuspage")

    @app.exception_handler(VendorError)
    async def vendor_error(request: Request, error: VendorError) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        return JSONResponse({"error": {"message": problems, "type": "invalid_request_error"}}, 400)

    return app
