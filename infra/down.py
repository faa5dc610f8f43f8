"""`python -m infra.down`: takes the local stack down, with its record, secrets and build daemon.

Docker Engine and the caches (tools, images' layers) stay.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import docker
from docker.errors import DockerException, NotFound
from docker.models.containers import Container

from infra import paths
from infra.local import PREFIX
from infra.toolchain import builder, environment, state
from infra.toolchain.environment import LOCAL
from infra.toolchain.errors import ToolchainError

_OURS = f"{PREFIX}-"


def main(stack: str = LOCAL) -> int:
    """Take everything down; return the exit code."""
    try:
        if state.exists(stack):
            _destroy(stack)
        builder.remove()
        sweep()
        home = paths.stack_home(stack)
        if home.exists():
            shutil.rmtree(home)
    except (ToolchainError, DockerException, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"down; {home} is gone too, and with it this stack's record and secrets. Docker Engine still runs")
    return 0


def _destroy(stack: str) -> None:
    state.clear_dead_locks(stack)
    state.end_orphans()
    state.settle(stack)
    own = {**os.environ, **environment.variables(os.environ, stack)}
    for command in (
        ["destroy", "--stack", stack, "--yes", "--skip-preview", "--non-interactive"],
        # --force: what destroy could not remove is on this machine, and swept by name below.
        ["stack", "rm", stack, "--yes", "--force", "--preserve-config"],
    ):
        done = subprocess.run(["pulumi", *command], cwd=paths.REPOSITORY, env=own, check=False)
        if done.returncode:
            print(f"pulumi {command[0]} ended with {done.returncode}: going on by name", file=sys.stderr)


def sweep() -> None:
    """Remove containers, networks and volumes that bear the local stack's prefix.

    Raises:
        ToolchainError: if some are still there afterwards.
    """
    client = docker.from_env()
    for container in _containers(client):
        try:
            container.remove(force=True, v=True)
        except NotFound:
            continue
    for kind in (client.networks, client.volumes):
        for thing in kind.list(filters={"name": _OURS}):
            if str(thing.name).startswith(_OURS):
                thing.remove()
    left = [str(container.name) for container in _containers(client)]
    for kind in (client.networks, client.volumes):
        left += [
            name
            for thing in kind.list(filters={"name": _OURS})
            if (name := str(thing.name)).startswith(_OURS)
        ]
    if left:
        raise ToolchainError(f"still there: {', '.join(left)}")


def _containers(client: docker.DockerClient) -> list[Container]:
    found = client.containers.list(all=True, filters={"name": _OURS})
    return [container for container in found if str(container.name).startswith(_OURS)]


if __name__ == "__main__":
    sys.exit(main())
