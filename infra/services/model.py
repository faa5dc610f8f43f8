"""What a service is, for any runtime: plain data, no rendering and no I/O.

`infra/runtimes/compose.py` makes a Compose project of it, `infra/runtimes/kubernetes/` a cluster's objects;
nothing here is of one of them only. Texts may hold references `${secret:<name>}`, which stay references
until a file is written on a host, or a Secret in a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the edge listens for everybody; the firewall is the host's


class Network(StrEnum):
    """Networks between services of one host."""

    EDGE = "edge"
    """Proxy, login and agents; has a way out and a fixed subnet, in which the proxy's address is fixed."""
    DATA = "data"
    """Agents and their databases; no way out."""
    TELEMETRY = "telemetry"
    """Whoever sends or is scraped; no way out."""
    EGRESS = "egress"
    """A way out for those that are not at the edge, and for ports published on the loopback address."""


class Slot(StrEnum):
    """The two places of the service of which one is active; which one is runtime state."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Slot:
        """The slot that does not serve while this one does."""
        return Slot.GREEN if self is Slot.BLUE else Slot.BLUE


class Condition(StrEnum):
    """What must be so of another service before this one starts."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


@dataclass(frozen=True)
class EnvironmentFile:
    """A file of variables in the project directory that operators know by name (VM-3)."""

    name: str
    variables: Mapping[str, str]
    runtime: tuple[str, ...] = ()
    """Names of variables that come from the environment's record when the file is written."""


@dataclass(frozen=True)
class File:
    """A file given to a service, `source` below the project directory, `path` inside the container."""

    source: str
    path: str
    content: str
    secret: bool = False
    """Only the service's user may read it, and its content is shown nowhere."""
    live: bool = False
    """The service need not be made anew for another content: whoever writes it tells the service of it.

    So are all files in its directory then, which the service is given as a whole where the runtime can.
    """


@dataclass(frozen=True)
class Directory:
    """A directory of the project mounted read-only as a whole, so that renames inside it are seen."""

    source: str
    path: str


@dataclass(frozen=True)
class Volume:
    """Named, persistent storage at `path` inside the container."""

    name: str
    path: str
    size_gib: int = 10
    """Asked for where storage is given out by size."""


@dataclass(frozen=True)
class Scratch:
    """Memory-backed directory at `path`; size in MiB."""

    path: str
    size_mib: int = 16


@dataclass(frozen=True)
class Port:
    """A port of the container; `published` on the host at `host_address` where set."""

    name: str
    number: int
    published: int | None = None
    host_address: str = EVERYWHERE

    @property
    def public(self) -> bool:
        """Whether everybody reaches it."""
        return self.published is not None and self.host_address == EVERYWHERE


@dataclass(frozen=True)
class HttpProbe:
    """Succeeds where `GET path` answers 200; `command` does the same from inside."""

    path: str
    port: int
    command: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CommandProbe:
    """Succeeds where a command inside the container exits 0."""

    command: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """A check with its rhythm; seconds."""

    check: HttpProbe | CommandProbe
    interval: float = 5
    timeout: float = 3
    failures: int = 3


@dataclass(frozen=True)
class Health:
    """`startup` guards a slow start, `readiness` decides on traffic, `liveness` on a restart."""

    readiness: Probe
    startup: Probe | None = None
    liveness: Probe | None = None

    @property
    def startup_seconds(self) -> float:
        """How long a start may take before failures count."""
        return self.startup.interval * self.startup.failures if self.startup else 0


@dataclass(frozen=True)
class Resources:
    """Upper limits and what is set aside; memory in MiB."""

    cpus: float
    memory_mib: int
    pids: int = 256
    reserved_memory_mib: int = 32
    reserved_cpus: float = 0.1
    """What a scheduler sets aside; autoscaling measures load by it."""


@dataclass(frozen=True)
class Dependency:
    """Another service and what must be so of it first."""

    service: str
    condition: Condition = Condition.READY


@dataclass(frozen=True)
class Service:
    """One service. Everything it does not name it does not get: capabilities, writable paths, networks."""

    name: str
    image: str
    """Key of the image: a directory below `images/`, or the release's, then `slots` decide on the digest."""
    uid: int
    networks: tuple[Network, ...]
    resources: Resources
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: tuple[EnvironmentFile, ...] = ()
    project_variables: tuple[str, ...] = ()
    """Variables of the project's own file `.env` that are handed on under the same name."""
    files: tuple[File, ...] = ()
    directories: tuple[Directory, ...] = ()
    volumes: tuple[Volume, ...] = ()
    scratch: tuple[Scratch, ...] = ()
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    dependencies: tuple[Dependency, ...] = ()
    calls: tuple[str, ...] = ()
    """Services that it talks to besides those that it depends on, where they are there."""
    capabilities: tuple[str, ...] = ()
    stop_seconds: int = 10
    slots: tuple[Slot, ...] = ()
    job: bool = False
    """Runs once and ends; others wait for its completion."""
    check: tuple[str, ...] = ()
    """Command of a job's image that ends with 0 once the job's work is there, in its waiters' environment."""
    replicated: bool = False
    """Several may serve side by side, where the runtime can run several."""
    api_access: bool = False
    """Asks the API of the runtime itself."""
    edge_address: str | None = None
    """Fixed address on the edge network."""


@dataclass(frozen=True)
class Topology:
    """All services of one host, and what belongs to the project as a whole."""

    services: tuple[Service, ...]
    project_file: EnvironmentFile
    edge_subnet: str
    edge_gateway: str
    edge_pool: str
    files: tuple[File, ...] = ()
    """Files in directories that services mount as a whole."""

    def called(self, service: Service) -> tuple[Service, ...]:
        """Services that one talks to: those that it depends on and stay, and those that it calls."""
        wanted = {dependency.service for dependency in service.dependencies} | set(service.calls)
        return tuple(other for other in self.services if other.name in wanted and not other.job)

    @property
    def images(self) -> tuple[str, ...]:
        """Images whose digests belong to the program; those of slots are runtime state."""
        return tuple(sorted({service.image for service in self.services if not service.slots}))

    def service(self, name: str) -> Service:
        """Service by name; an error lists those that exist."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(f"{name}: accepted: {', '.join(service.name for service in self.services)}")
