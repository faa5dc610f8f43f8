"""Commands of the image, one module each: `configure(parser)` says what it takes, `run(arguments)` does it.

A module is imported only when its command is asked for: on a machine that serves, what a command never needs
takes its second of processor time from the requests.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final, Protocol, cast

COMMANDS: Final = {
    "serve": "run the service",
    "check-config": "check the environment of `serve`",
    "migrate": "bring the schema to this release's revision; grant the application its rights",
    "check-schema": "check that the schema serves this release",
    "sync-vector-stores": "bring the vector stores to this release's documents",
    "smoke": "test a running service from outside",
    "healthcheck": "ask a health endpoint; 0 where it answers 200",
    "flags": "list or change feature flags",
}


class Command(Protocol):
    """What a module of this package has."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; return the exit status. Raises CommandError."""


def command(name: str) -> Command:
    """Return a command of COMMANDS."""
    return cast(Command, import_module(f".{name.replace('-', '_')}", __name__))
