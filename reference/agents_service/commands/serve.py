"""`serve`."""

from __future__ import annotations

import argparse

from .. import logs
from ..app import create_app, production_parts
from ..config import Settings, load
from ..server import serve
from ..telemetry import Telemetry


def configure(_parser: argparse.ArgumentParser) -> None:
    """All that it takes is in the environment."""


def run(_arguments: argparse.Namespace) -> int:
    """Serve until drained."""
    settings = load(Settings)
    telemetry = Telemetry(settings)
    logs.configure(settings.log_level, logs.Redactor(settings.secret_values()), [telemetry.log_processor])
    parts = production_parts(settings, telemetry)
    serve(
        create_app(parts),
        parts.drain,
        host=settings.listen_host,
        port=settings.listen_port,
        grace_seconds=settings.drain_grace_seconds,
        drain_seconds=settings.drain_seconds,
    )
    return 0
