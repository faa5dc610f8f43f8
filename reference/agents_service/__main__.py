"""Commands of the image: `python -m agents_service <command>`."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence

from .commands import COMMANDS, Command, command
from .errors import CommandError


def parse(arguments: Sequence[str] | None = None) -> tuple[str, Command, argparse.Namespace]:
    """Return the command's name, its module and its arguments."""
    listed = "\n".join(f"  {name:20}{what}" for name, what in COMMANDS.items())
    root = argparse.ArgumentParser(
        prog="agents_service",
        description=__doc__,
        epilog=f"commands:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("command", choices=COMMANDS, metavar="command")
    root.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = root.parse_args(arguments)
    chosen = command(asked.command)
    own = argparse.ArgumentParser(prog=f"{root.prog} {asked.command}", description=COMMANDS[asked.command])
    chosen.configure(own)
    return asked.command, chosen, own.parse_args(asked.arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 78 where its configuration is not usable, 1 where it failed."""
    name, chosen, parsed = parse(arguments)
    try:
        return chosen.run(parsed)
    except CommandError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.status


if __name__ == "__main__":
    # What is imported stays, and looking through it for garbage takes a tenth of a start's time.
    # `serve` turns the collector on again; other commands end before it matters.
    gc.disable()
    sys.exit(main())
