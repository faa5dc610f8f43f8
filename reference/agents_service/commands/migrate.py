"""`migrate`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..config import MigrationSettings, load
from ..migrate import migrate, plan


def configure(parser: argparse.ArgumentParser) -> None:
    """Take `--plan`."""
    parser.add_argument(
        "--plan", action="store_true", help="change nothing, print what would be done as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    """Migrate, or say what that would be."""
    settings = load(MigrationSettings)
    print(json.dumps(asdict(plan(settings))) if arguments.plan else migrate(settings))
    return 0
