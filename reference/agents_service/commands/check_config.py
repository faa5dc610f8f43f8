"""`check-config`."""

from __future__ import annotations

import argparse

from ..config import Settings, load


def configure(_parser: argparse.ArgumentParser) -> None:
    """All that it takes is in the environment."""


def run(_arguments: argparse.Namespace) -> int:
    """Load what `serve` would."""
    load(Settings)
    print("configuration is complete")
    return 0
