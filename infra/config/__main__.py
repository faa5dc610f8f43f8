"""`python -m infra.config check --stack NAME`: says what is wrong with a stack file, without Pulumi."""

from __future__ import annotations

import argparse
import sys

from infra.config.load import ConfigurationError, load_file, stack_names


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 for accepted files, 1 where any is refused."""
    parser = argparse.ArgumentParser(prog="python -m infra.config", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check stack files; all of them without --stack")
    check.add_argument("--stack", action="append")
    options = parser.parse_args(arguments)
    refused = 0
    for name in options.stack or stack_names():
        try:
            load_file(name)
        except ConfigurationError as error:
            print(error, file=sys.stderr)
            refused = 1
        else:
            print(f"stacks/Pulumi.{name}.yaml: accepted")
    return refused


if __name__ == "__main__":
    sys.exit(main())
