"""`python3 -m infra.toolchain`: commands over the toolchain; any Python 3.11 can start it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from infra import paths
from infra.toolchain import environment, venv
from infra.toolchain.errors import ToolchainError
from infra.toolchain.groups import Group

GROUPS = tuple(Group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m infra.toolchain", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("venv", help="make the virtual environment and print where it is")
    commands.add_parser("lock", help="write constraints.txt anew from requirements.txt")
    commands.add_parser("env", help="print the environment as shell text")
    run = commands.add_parser("run", help="run a command in the environment")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    stack = commands.add_parser("stack", help="make a stack in the file backend where it is missing")
    stack.add_argument("name")
    for name, text in (
        ("ensure", "find or build everything that the groups need"),
        ("tools", "the same, then print the table of tools"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: up"
        )
    options = parser.parse_args(arguments)
    try:
        return _dispatch(options)
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "env":
        sys.stdout.write(environment.exports(os.environ))
        return 0
    if options.command == "run":
        words = options.words[1:] if options.words[:1] == ["--"] else options.words
        return _replace(words)
    if options.command == "venv":
        print(venv.ensure())
        return 0
    if options.command == "lock":
        venv.lock()
        return 0
    if options.command == "stack":
        return _in_environment(options, options.name)
    unknown = sorted(set(options.groups) - set(GROUPS))
    if unknown:
        raise ToolchainError(f"unknown group {', '.join(unknown)}; accepted: {', '.join(GROUPS)}")
    return _in_environment(options, *options.groups)


def _in_environment(options: argparse.Namespace, *words: str) -> int:
    """Run the command in the virtual environment, made if need be."""
    home = venv.ensure()
    if os.path.realpath(sys.prefix) != os.path.realpath(home):
        python = str(paths.virtual_environment() / "bin" / "python")
        return _replace([python, "-m", "infra.toolchain", options.command, *words])
    from infra.toolchain import ensure, state  # noqa: PLC0415 - need the virtual environment

    if options.command == "stack":
        state.ensure_stack(options.name)
        return 0
    return ensure.run(options.groups or [Group.UP], table=options.command == "tools")


def _replace(words: Sequence[str]) -> int:
    """Become the command `words`, in the project's environment."""
    if not words:
        raise ToolchainError("run: no command given")
    merged = {**os.environ, **environment.variables(os.environ)}
    os.chdir(paths.REPOSITORY)
    try:
        os.execvpe(words[0], list(words), merged)  # noqa: S606 - the command is the user's own
    except OSError as error:
        raise ToolchainError(f"can't run {words[0]}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
