"""One machine of a scenario, reached through the engine: commands, reboots, and containers inside of it."""

from __future__ import annotations

from dataclasses import dataclass

import docker
from docker.models.containers import Container
from testinfra.host import Host

from tests.waiting import eventually

PROBE_IMAGE = "probe"
# A first process without a handler ignores SIGTERM, and holds up the reboot for 90 s.
STAY = "sh -c 'trap exit TERM; sleep infinity & wait'"
# Enough of the machine for a container that runs Python, without another image to fetch.
_PROBE_PATHS = "bin lib lib64 usr/bin usr/lib/python3* usr/lib/*-linux-gnu usr/lib64 etc/passwd etc/group"
_PROBE_LEFT_OUT = (
    "--exclude=usr/bin/docker* --exclude=usr/bin/containerd* --exclude=*/gconv --exclude=*/perl*"
)


@dataclass(frozen=True)
class Done:
    """Result of a command; `output` is standard output and error."""

    code: int
    output: str


def execute(container: Container, command: tuple[str, ...]) -> Done:
    """Run a command in a container as root; one that the engine can't start has the engine's code."""
    code, output = container.exec_run(list(command))
    assert isinstance(output, bytes)
    return Done(-1 if code is None else code, output.decode(errors="replace"))


class Machine:
    """A machine by the name of its container."""

    def __init__(self, name: str) -> None:
        self.container: Container = docker.from_env().containers.get(name)

    @classmethod
    def of(cls, host: Host) -> Machine:
        """Machine that testinfra calls `host`."""
        return cls(host.backend.get_hostname())

    def run(self, *command: str) -> Done:
        """Run a command as root."""
        return execute(self.container, command)

    def shell(self, script: str) -> str:
        """Run a script as root and return its output.

        Raises:
            AssertionError: it failed.
        """
        done = self.run("sh", "-ec", script)
        assert done.code == 0, f"{script}\n{done.output}"
        return done.output.strip()

    def address(self) -> str:
        """IPv4 address on the network of the scenario."""
        self.container.reload()
        (network,) = self.container.attrs["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def boot(self) -> str:
        """Identifies the present boot."""
        self.container.reload()
        return str(self.container.attrs["State"]["StartedAt"])

    def reboot(self) -> None:
        """Reboot from inside and wait until systemd has started everything."""
        before = self.boot()
        self.run("systemctl", "reboot")
        eventually(lambda: self.boot() != before, "the machine comes back")
        eventually(
            lambda: self.run("systemctl", "is-system-running").output.strip() == "running",
            "systemd has started everything",
        )

    def probe_image(self) -> None:
        """Make the image `probe` in the machine's own engine."""
        self.shell(
            f"docker image inspect {PROBE_IMAGE} >/dev/null 2>&1 || "
            f"(cd / && tar -c {_PROBE_LEFT_OUT} {_PROBE_PATHS} | docker import - {PROBE_IMAGE} >/dev/null)"
        )

    def container_run(self, name: str, *options: str, command: str = STAY) -> None:
        """Have a new container `name` of the image `probe` run; its command must end at SIGTERM."""
        self.probe_image()
        self.run("docker", "rm", "--force", name)
        self.shell(
            f"docker run --detach --name {name} --restart unless-stopped {' '.join(options)} "
            f"{PROBE_IMAGE} {command}"
        )

    def container_process(self, name: str) -> str:
        """Process id of a container's first process."""
        return self.shell(f"docker inspect --format '{{{{.State.Pid}}}}' {name}")
