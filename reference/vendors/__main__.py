"""`python -m reference.vendors`: serves the vendors' port (TLS) and the control port until it is stopped."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import uvicorn

from .app import create_app, seed_store
from .control import create_control
from .faults import Faults
from .settings import Seed, Settings
from .store import Store

_ANYWHERE = "0.0.0.0"  # noqa: S104 - the container's own network


async def main() -> None:
    """Serve both ports; the first that ends, ends the other."""
    settings = Settings.model_validate_json(
        Path(os.environ.get("VENDORS_SETTINGS", "/etc/vendors/settings.json")).read_text()
    )
    seed = Seed.model_validate_json(Path(os.environ.get("VENDORS_SEED", "/etc/icupa/seed.json")).read_text())
    store, faults = Store(settings.database), Faults()
    seed_store(store, settings, seed)
    vendors = uvicorn.Server(
        uvicorn.Config(
            create_app(store, settings, faults),
            host=_ANYWHERE,
            port=settings.port,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            timeout_graceful_shutdown=5,
        )
    )
    control = uvicorn.Server(
        uvicorn.Config(
            create_control(faults), host=_ANYWHERE, port=settings.control_port, log_level="warning"
        )
    )
    serving = [asyncio.create_task(server.serve()) for server in (vendors, control)]
    await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
    vendors.should_exit = control.should_exit = True
    await asyncio.gather(*serving)
    store.close()


if __name__ == "__main__":
    asyncio.run(main())
