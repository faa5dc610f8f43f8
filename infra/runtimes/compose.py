"""Renders services to a Compose project for one host: pure, its result is JSON (docs/architecture.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from infra.secrets.references import REFERENCE
from infra.services.agents import image_variable
from infra.services.model import (
    CommandProbe,
    Condition,
    EnvironmentFile,
    File,
    Health,
    HttpProbe,
    Network,
    Port,
    Probe,
    Scratch,
    Service,
    Slot,
    Topology,
)

PROJECT = "agents-service"
PROFILES_VARIABLE = "COMPOSE_PROFILES"
SECRETS_DIRECTORY = "secrets"

RenderedProject = dict[str, Any]
"""Plain JSON; the values of `image` may be anything, such as an output of Pulumi."""

_CONDITIONS = {
    Condition.STARTED: "service_started",
    Condition.READY: "service_healthy",
    Condition.COMPLETED: "service_completed_successfully",
}
_LONGEST_BRIDGE_NAME = 15


class RenderError(ValueError):
    """Definitions contradict each other; the message lists everything that does."""


def render(topology: Topology, images: Mapping[str, Any]) -> RenderedProject:
    """Compose project of a host.

    `images` has a reference for every image that is not in slots: those are runtime state.
    Raises RenderError.
    """
    _check(topology, images)
    services: dict[str, Any] = {}
    for service in topology.services:
        for slot in service.slots or (None,):
            services[_name(service, slot)] = _service(service, slot, topology, images)
    files = _unique_files(topology)
    return {
        "compose": {
            "name": PROJECT,
            "services": services,
            "networks": _networks(topology),
            "volumes": {volume.name: {} for service in topology.services for volume in service.volumes},
        },
        "env_files": {
            file.name: dict(sorted(file.variables.items())) for file in _environment_files(topology)
        },
        "files": [_file(file, uid) for file, uid in files],
        "runtime": {
            file.name: [*file.runtime, *((PROFILES_VARIABLE,) if file is topology.project_file else ())]
            for file in _environment_files(topology)
            if file.runtime
        },
        "directories": _directories(topology, files),
    }


def _check(topology: Topology, images: Mapping[str, Any]) -> None:
    problems = []
    known = {service.name for service in topology.services}
    if len(known) != len(topology.services):
        problems.append("two services have the same name")
    published: dict[tuple[str, int], str] = {}
    for service in topology.services:
        for dependency in service.dependencies:
            if dependency.service not in known:
                problems.append(
                    f"{service.name} depends on {dependency.service}; accepted: {', '.join(sorted(known))}"
                )
        problems += [
            f"{service.name} calls {called.name}, but no network has both"
            for called in topology.called(service)
            if not set(service.networks) & set(called.networks) - {Network.EGRESS}
        ]
        if not service.slots and service.image not in images:
            problems.append(
                f"{service.name} has no image {service.image}; accepted: {', '.join(sorted(images))}"
            )
        for name, value in service.environment.items():
            if REFERENCE.search(value):
                problems.append(f"{service.name}: {name} holds a secret; accepted: in files and env files")
        for port in service.ports:
            if port.published is None:
                continue
            other = published.setdefault((port.host_address, port.published), service.name)
            if other != service.name:
                problems.append(f"{service.name} publishes {port.published} as {other} does")
    if problems:
        raise RenderError("\n".join(problems))


def _name(service: Service, slot: Slot | None) -> str:
    return f"{service.name}-{slot}" if slot else service.name


def _service(
    service: Service, slot: Slot | None, topology: Topology, images: Mapping[str, Any]
) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "image": f"${{{image_variable(slot)}}}" if slot else images[service.image],
        "user": f"{service.uid}:{service.uid}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "no" if service.job else "unless-stopped",
        "stop_grace_period": f"{service.stop_seconds}s",
        "cpus": service.resources.cpus,
        "mem_limit": f"{service.resources.memory_mib}m",
        "memswap_limit": f"{service.resources.memory_mib}m",
        "mem_reservation": f"{service.resources.reserved_memory_mib}m",
        "pids_limit": service.resources.pids,
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}},
        "networks": _memberships(service, slot),
    }
    if slot:
        rendered["profiles"] = [str(slot)]
    if service.capabilities:
        rendered["cap_add"] = sorted(service.capabilities)
    if service.entrypoint:
        rendered["entrypoint"] = [_literal(word) for word in service.entrypoint]
    if service.command:
        rendered["command"] = [_literal(word) for word in service.command]
    environment = {name: _literal(value) for name, value in service.environment.items()}
    environment |= {name: f"${{{name}}}" for name in service.project_variables}
    if environment:
        rendered["environment"] = dict(sorted(environment.items()))
    if service.environment_files:
        rendered["env_file"] = [file.name for file in service.environment_files]
    if mounts := _mounts(service):
        rendered["volumes"] = mounts
    if service.scratch:
        rendered["tmpfs"] = [_tmpfs(scratch, service.uid) for scratch in service.scratch]
    if ports := [_port(port) for port in service.ports if port.published is not None]:
        rendered["ports"] = ports
    if service.health:
        rendered["healthcheck"] = _healthcheck(service.health)
    if service.dependencies:
        rendered["depends_on"] = {
            _name(other, slot if other.slots else None): {"condition": _CONDITIONS[dependency.condition]}
            for dependency in service.dependencies
            for other in (topology.service(dependency.service),)
        }
    return rendered


def _literal(text: str) -> str:
    """Text in which Compose replaces nothing."""
    return text.replace("$", "$$")


def _memberships(service: Service, slot: Slot | None) -> dict[str, Any]:
    memberships: dict[str, Any] = {str(network): {} for network in service.networks}
    if service.edge_address:
        memberships[Network.EDGE]["ipv4_address"] = service.edge_address
    if slot and not service.job and Network.TELEMETRY in service.networks:
        memberships[Network.TELEMETRY]["aliases"] = [service.name]
    # Never null: Pulumi drops what is null from its outputs, and a service would lose the network.
    return memberships


def _networks(topology: Topology) -> dict[str, Any]:
    used = {network for service in topology.services for network in service.networks}
    networks: dict[str, Any] = {}
    for network in (network for network in Network if network in used):
        bridge = f"icupa-{network}"[:_LONGEST_BRIDGE_NAME]
        settings: dict[str, Any] = {"driver_opts": {"com.docker.network.bridge.name": bridge}}
        if network in {Network.DATA, Network.TELEMETRY}:
            settings["internal"] = True
        if network is Network.EDGE:
            settings["ipam"] = {
                "config": [
                    {
                        "subnet": topology.edge_subnet,
                        "gateway": topology.edge_gateway,
                        "ip_range": topology.edge_pool,
                    }
                ]
            }
        networks[str(network)] = settings
    return networks


def _mounts(service: Service) -> list[dict[str, Any]]:
    binds = [(file.source, file.path) for file in service.files if not file.live]
    # A file that is mounted alone stays the one that it was, whatever is renamed into its place.
    binds += sorted(
        {
            (str(PurePosixPath(file.source).parent), str(PurePosixPath(file.path).parent))
            for file in service.files
            if file.live
        }
    )
    binds += [(directory.source, directory.path) for directory in service.directories]
    mounts: list[dict[str, Any]] = [
        {
            "type": "bind",
            "source": f"./{source}",
            "target": path,
            "read_only": True,
            "bind": {"create_host_path": False},
        }
        for source, path in binds
    ]
    return mounts + [
        {"type": "volume", "source": volume.name, "target": volume.path} for volume in service.volumes
    ]


def _tmpfs(scratch: Scratch, uid: int) -> str:
    return f"{scratch.path}:size={scratch.size_mib}m,uid={uid},gid={uid},mode=0700,noexec,nosuid,nodev"


def _port(port: Port) -> dict[str, Any]:
    rendered: dict[str, Any] = {"target": port.number, "published": str(port.published), "protocol": "tcp"}
    if not port.public:
        rendered["host_ip"] = port.host_address
    return rendered


def _healthcheck(health: Health) -> dict[str, Any]:
    """Docker knows one check: the one that decides on traffic; a start has its own rhythm and patience."""
    probe = health.readiness
    rendered: dict[str, Any] = {
        "test": ["CMD", *(_literal(word) for word in _command(probe))],
        "interval": f"{probe.interval:g}s",
        "timeout": f"{probe.timeout:g}s",
        "retries": probe.failures,
    }
    if health.startup:
        rendered["start_period"] = f"{health.startup_seconds:g}s"
        rendered["start_interval"] = f"{health.startup.interval:g}s"
    return rendered


def _command(probe: Probe) -> tuple[str, ...]:
    check = probe.check
    if isinstance(check, CommandProbe):
        return check.command
    return check.command or _http_command(check, probe.timeout)


def _http_command(check: HttpProbe, timeout: float) -> tuple[str, ...]:
    """`GET` with what every Debian image has: bash."""
    script = (
        f"exec 3<>/dev/tcp/127.0.0.1/{check.port}; "
        f"printf 'GET {check.path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3; "
        f"read -r -t {timeout:g} _ status _ <&3; "
        '[ "$status" = 200 ]'
    )
    return ("/bin/bash", "-ec", script)


def _environment_files(topology: Topology) -> list[EnvironmentFile]:
    files = [file for service in topology.services for file in service.environment_files]
    return [topology.project_file, *files]


def _unique_files(topology: Topology) -> list[tuple[File, int]]:
    """Files with their readers' user, each source once; 0 where everybody may read it."""
    found: dict[str, tuple[File, int]] = {}
    owned = [(file, service.uid) for service in topology.services for file in service.files]
    owned += [(file, 0) for file in topology.files]
    for file, uid in owned:
        entry = (file, uid if file.secret else 0)
        before = found.setdefault(file.source, entry)
        if (before[0].content, before[0].secret, before[1]) != (file.content, file.secret, entry[1]):
            raise RenderError(f"{file.source} is given two contents or readers")
    return [found[source] for source in sorted(found)]


def _file(file: File, uid: int) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "path": file.source,
        "content": file.content,
        "mode": 0o400 if file.secret else 0o644,
        "uid": uid,
        "gid": uid,
    }
    if file.secret or REFERENCE.search(file.content):
        rendered["secret"] = True
    return rendered


def _directories(topology: Topology, files: Sequence[tuple[File, int]]) -> list[dict[str, Any]]:
    paths = {directory.source for service in topology.services for directory in service.directories}
    owners = {str(PurePosixPath(file.source).parent): uid for file, uid in files if file.live}
    for file, _ in files:
        paths |= {str(parent) for parent in PurePosixPath(file.source).parents if str(parent) != "."}
    for path in list(paths):
        paths |= {str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."}
    return [
        {
            "path": path,
            "mode": 0o700 if re.match(rf"{SECRETS_DIRECTORY}(/|$)", path) else 0o755,
            "uid": owners.get(path, 0),
            "gid": owners.get(path, 0),
        }
        for path in sorted(paths)
    ]
