"""Machines that somebody else made: known by address and host key, nothing is created."""

from __future__ import annotations

from infra.config.model import ExistingHosts
from infra.hosts.model import Host


def existing_hosts(config: ExistingHosts) -> tuple[Host, ...]:
    """Hosts by address; operators reach them with keys of their own."""
    return tuple(
        Host(
            name=machine.name,
            region=machine.region,
            role=machine.role,
            address=str(machine.address),
            user=config.user,
            port=machine.port,
            host_key=machine.host_key,
        )
        for machine in config.machines
    )
