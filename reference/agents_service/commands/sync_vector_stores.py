"""`sync-vector-stores`."""

from __future__ import annotations

import argparse
import asyncio

from ..config import OpenAISettings, load
from ..vector_stores import sync


def configure(_parser: argparse.ArgumentParser) -> None:
    """All that it takes is in the environment."""


def run(_arguments: argparse.Namespace) -> int:
    """Bring every store up to date."""
    for line in asyncio.run(sync(load(OpenAISettings))):
        print(line)
    return 0
