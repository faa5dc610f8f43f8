"""Control port of the double, for tests: faults of a vendor, and the calls that were made."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException, Response

from .faults import VENDORS, Call, Fault, Faults


def create_control(faults: Faults) -> FastAPI:
    """Return the application of the control port."""
    app = FastAPI(title="control", docs_url=None, redoc_url=None, openapi_url=None)

    def known(vendor: str) -> str:
        if vendor not in VENDORS:
            raise HTTPException(404, f"{vendor!r} is no vendor; there are {', '.join(VENDORS)}")
        return vendor

    @app.get("/faults")
    def read() -> dict[str, Fault]:
        return {vendor: faults.of(vendor) for vendor in VENDORS}

    @app.put("/faults/{vendor}")
    def write(vendor: str, fault: Fault) -> Fault:
        faults.by_vendor[known(vendor)] = fault
        return fault

    @app.delete("/faults/{vendor}")
    def clear(vendor: str) -> Response:
        faults.by_vendor.pop(known(vendor), None)
        return Response(status_code=204)

    @app.get("/calls/{vendor}")
    def calls(vendor: str) -> list[Call]:
        known(vendor)
        return [call for call in faults.calls if call.vendor == vendor]

    return app
