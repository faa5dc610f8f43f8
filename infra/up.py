"""`python -m infra.up`: the local stack, from whatever state the last run left, to serving.

Each step is a native command that an operator may run alone after `. ./env.sh`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from infra import paths
from infra.toolchain import environment, state
from infra.toolchain.environment import LOCAL
from infra.toolchain.errors import ToolchainError

_PLAYBOOKS = "ansible/playbooks"


def main(stack: str = LOCAL) -> int:
    """Bring the stack up and print its URLs; return the exit code."""
    try:
        _step(stack, "secrets", [sys.executable, "-m", "infra.secretstore", "prepare", "--stack", stack])
        refresh = repair(stack)
        command = ["pulumi", "up", "--stack", stack, "--yes", "--skip-preview", "--non-interactive"]
        _step(stack, "program", [*command, "--refresh"] if refresh else command)
        _step(stack, "hosts", ["ansible-playbook", f"{_PLAYBOOKS}/site.yml", "-e", f"stack={stack}"])
        _step(stack, "smoke", ["ansible-playbook", f"{_PLAYBOOKS}/smoke.yml", "-e", f"stack={stack}"])
        urls(stack)
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def repair(stack: str) -> bool:
    """Undo what a killed run left; say if state may differ from what is there, so that `up` must refresh.

    Raises:
        ToolchainError: if another run still holds the stack.
    """
    state.ensure_stack(stack)
    for lock in state.clear_dead_locks(stack):
        print(f"cleared the lock of process {lock.pid}, which is dead", file=sys.stderr)
    for pid in state.end_orphans():
        print(f"ended plugin process {pid}, whose engine is dead", file=sys.stderr)
    settled = state.settle(stack)
    for operation in settled:
        print(f"settled what was left {operation.operation}: {operation.urn}", file=sys.stderr)
    missing = state.missing(stack)
    if missing:
        print(f"not there, or not running: {', '.join(missing)}", file=sys.stderr)
    return bool(settled or missing)


def urls(stack: str) -> None:
    """Print the stack's URLs."""
    done = subprocess.run(
        ["pulumi", "stack", "output", "urls", "--json", "--stack", stack],
        cwd=paths.REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ToolchainError(f"the stack has no output `urls`: {done.stderr.strip()}")
    for name, url in json.loads(done.stdout).items():
        print(f"{name:<16} {url}")


def _step(stack: str, name: str, command: Sequence[str]) -> None:
    own = {**os.environ, **environment.variables(os.environ, stack)}
    began = time.monotonic()
    print(f"== {name}: {' '.join(command)}", flush=True)
    done = subprocess.run(command, cwd=paths.REPOSITORY, env=own, check=False)
    print(f"== {name}: {time.monotonic() - began:.1f} s", flush=True)
    if done.returncode:
        raise ToolchainError(f"{name}: {command[0]} ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
