"""`smoke`."""

from __future__ import annotations

import argparse

from ..config import load
from ..smoke import SmokeSettings, main


def configure(_parser: argparse.ArgumentParser) -> None:
    """All that it takes is in the environment."""


def run(_arguments: argparse.Namespace) -> int:
    """Run the suite."""
    return main(load(SmokeSettings))
