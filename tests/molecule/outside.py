"""Somebody outside a machine, on its network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import docker
from docker.errors import NotFound
from docker.models.containers import Container

from tests.molecule.machine import Done, Machine, execute

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()
    print("open")
except ConnectionRefusedError:
    print("refused")
except TimeoutError:
    print("silent")
except OSError as error:
    print(error.strerror)
"""


@dataclass(frozen=True)
class Outside:
    """A container beside the machine."""

    container: Container

    def run(self, *command: str) -> Done:
        """Run a command."""
        return execute(self.container, command)

    def reach(self, machine: Machine, port: int) -> str:
        """`open`, `refused`, `silent` (dropped) or what the network says."""
        return self.run("python3", "-c", CONNECT, machine.address(), str(port)).output.strip()


@contextlib.contextmanager
def beside(network: str) -> Iterator[Outside]:
    """Have a container `<network>-outside` on the network of a scenario while the block runs."""
    client = docker.from_env()
    name = f"{network}-outside"
    with contextlib.suppress(NotFound):
        client.containers.get(name).remove(force=True)
    container = client.containers.run(
        "icupa-molecule/bare:latest",
        ["sleep", "infinity"],
        name=name,
        network=network,
        cap_add=["NET_ADMIN"],
        detach=True,
        init=True,
    )
    try:
        yield Outside(container)
    finally:
        container.remove(force=True)
