"""No service reaches a cloud's metadata address, at which something listens (VM-5; issue 3, acceptance 2).

Connections are tried from each container's own network namespace by a tool of the machine, so that it does
not matter what an image holds.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra import local
from tests.molecule.machine import Machine
from tests.molecule.outside import CONNECT
from tests.running import machine

pytestmark = pytest.mark.system

METADATA = "169.254.169.254"
MACHINES = pytest.mark.parametrize("place", local.MACHINES, ids=lambda place: place.name)


@pytest.fixture(scope="module", autouse=True)
def metadata_service() -> Iterator[None]:
    """Something that answers at the metadata address, one hop from every machine, as in a cloud."""
    subprocess.run(["ip", "address", "add", f"{METADATA}/32", "dev", "lo"], check=True)
    try:
        with socket.create_server((METADATA, 80)) as server:

            def serve() -> None:
                while True:
                    try:
                        server.accept()[0].close()
                    except OSError:
                        return

            threading.Thread(target=serve, daemon=True).start()
            yield
            server.shutdown(socket.SHUT_RDWR)
    finally:
        subprocess.run(["ip", "address", "delete", f"{METADATA}/32", "dev", "lo"], check=True)


def tried(of: Machine, pid: str | None = None) -> str:
    """What comes of a connection: from the network namespace of a process, or from the machine's own."""
    namespace = ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []
    return of.run(*namespace, "python3", "-c", CONNECT, METADATA, "80").output.strip()


def services(of: Machine) -> dict[str, str]:
    """Process id by container."""
    listed = of.shell("docker inspect --format '{{.Name}} {{.State.Pid}}' $(docker ps --quiet)")
    return dict(line.lstrip("/").split() for line in listed.splitlines())


def reachable(of: Machine) -> set[str]:
    """Who gets a connection: containers, and the machine as `host`."""
    found = {name: tried(of, pid) for name, pid in services(of).items()} | {"host": tried(of)}
    return {name for name, answer in found.items() if answer == "open"}


@contextmanager
def without_rules(of: Machine) -> Iterator[None]:
    of.shell("nft flush chain inet icupa metadata_output; nft flush chain inet icupa metadata_forward")
    try:
        yield
    finally:
        of.shell("systemctl reload icupa-firewall")


@MACHINES
def test_nobody_reaches_it(place: local.Machine) -> None:
    of = machine(place)
    assert len(services(of)) >= 7
    assert reachable(of) == set()


@MACHINES
def test_without_the_rules_everybody_does_who_gets_out_at_all(place: local.Machine) -> None:
    """What the rules keep away is there: the test above could fail."""
    of = machine(place)
    with without_rules(of):
        found = reachable(of)
    assert {"host"} | {name for name in services(of) if "agents-" in name.split("service-")[1]} <= found
    assert reachable(of) == set()
