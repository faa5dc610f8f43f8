"""`check-schema`."""

from __future__ import annotations

import argparse

from ..config import MigrationSettings, load
from ..migrate import check_schema


def configure(_parser: argparse.ArgumentParser) -> None:
    """All that it takes is in the environment."""


def run(_arguments: argparse.Namespace) -> int:
    """Ask the database."""
    print(check_schema(load(MigrationSettings)))
    return 0
