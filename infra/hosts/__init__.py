"""Hosts of an environment by the driver that its stack file names.

A driver is imported where it is used: a cloud's SDK alone takes a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from infra.config.model import DigitalOceanHosts, DockerHosts, Stack
from infra.hosts.existing import existing_hosts
from infra.hosts.model import Host
from infra.images import BuildSettings

__all__ = ["Host", "make_hosts"]


def make_hosts(
    environment: str, stack: Stack, build: BuildSettings, world: pulumi.Resource | None
) -> Sequence[Host]:
    """Hosts of a stack; machines in containers are made once the outside world is there."""
    config = stack.hosts
    if isinstance(config, DockerHosts):
        from infra.hosts.docker import DockerHostsArgs, DockerMachines  # noqa: PLC0415

        return DockerMachines("hosts", DockerHostsArgs(environment, config, build, world)).hosts
    if isinstance(config, DigitalOceanHosts):
        from infra.hosts.digitalocean import Droplets, DropletsArgs  # noqa: PLC0415

        hosts = Droplets("hosts", DropletsArgs(environment, stack.domain, config)).hosts
        for host in hosts:
            if not host.host_key:
                pulumi.warn(
                    f"host {host.name}: its SSH host key is not pinned yet; read it at the provider's "
                    f"console, put it into stacks/Pulumi.{environment}.yaml, icupa:hosts.machines, host_key"
                )
        return hosts
    return existing_hosts(config)
