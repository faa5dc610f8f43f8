"""Droplets (VM-1): Ubuntu 24.04 LTS, 2 vCPU and 4 GB or more, each in a region and network of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from infra.config.model import DigitalOceanHosts, DropletMachine
from infra.hosts.cloud_init import cloud_init
from infra.hosts.model import Host

_EVERYWHERE = ["0.0.0.0/0", "::/0"]
_SSH_PORT = 22


@dataclass(frozen=True)
class DropletsArgs:
    """`domain` names things at the provider."""

    environment: str
    domain: str
    hosts: DigitalOceanHosts


class Droplets(pulumi.ComponentResource):
    """One Droplet a host with a reserved address, behind a firewall."""

    hosts: tuple[Host, ...]

    def __init__(self, name: str, args: DropletsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("icupa:hosts:Droplets", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        tags = ["icupa", f"icupa-{args.environment}"]
        keys = [
            digitalocean.SshKey(
                f"operator-{index}",
                name=f"icupa-{args.environment}-{index}",
                public_key=key,
                opts=self._child,
            )
            for index, key in enumerate(args.hosts.operator_keys)
        ]
        self.hosts = tuple(self._droplet(machine, args, keys, tags) for machine in args.hosts.machines)
        self.register_outputs({})

    def _droplet(
        self,
        machine: DropletMachine,
        args: DropletsArgs,
        keys: Sequence[digitalocean.SshKey],
        tags: Sequence[str],
    ) -> Host:
        network = digitalocean.Vpc(
            machine.name,
            name=f"icupa-{args.environment}-{machine.region}",
            region=machine.region,
            ip_range=str(machine.ip_range),
            opts=self._child,
        )
        droplet = digitalocean.Droplet(
            machine.name,
            name=f"{machine.region}.{args.domain}",
            region=machine.region,
            size=str(machine.size),
            image=args.hosts.image,
            vpc_uuid=network.id,
            ssh_keys=[key.fingerprint for key in keys],
            user_data=cloud_init(args.hosts.user, args.hosts.operator_keys),
            monitoring=True,
            ipv6=False,
            graceful_shutdown=True,
            tags=[*tags, f"icupa-{machine.role}"],
            # First boot is over: changing what it read would replace the machine and its data.
            opts=pulumi.ResourceOptions.merge(
                self._child,
                pulumi.ResourceOptions(protect=True, ignore_changes=["userData", "sshKeys", "image"]),
            ),
        )
        reserved = digitalocean.ReservedIp(
            machine.name,
            region=machine.region,
            opts=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(protect=True)),
        )
        digitalocean.ReservedIpAssignment(
            machine.name,
            ip_address=reserved.ip_address,
            droplet_id=droplet.id.apply(int),
            opts=self._child,
        )
        self._firewall(machine, args, droplet)
        return Host(
            name=machine.name,
            region=machine.region,
            role=machine.role,
            address=reserved.ip_address,
            user=args.hosts.user,
            port=_SSH_PORT,
            host_key=machine.host_key or "",
        )

    def _firewall(self, machine: DropletMachine, args: DropletsArgs, droplet: digitalocean.Droplet) -> None:
        operators = [str(network) for network in args.hosts.operator_networks]
        inbound = [("tcp", "22", operators), ("tcp", "80", _EVERYWHERE), ("tcp", "443", _EVERYWHERE)]
        digitalocean.Firewall(
            machine.name,
            name=f"icupa-{args.environment}-{machine.region}",
            droplet_ids=[droplet.id.apply(int)],
            inbound_rules=[
                *(
                    digitalocean.FirewallInboundRuleArgs(
                        protocol=protocol, port_range=ports, source_addresses=sources
                    )
                    for protocol, ports, sources in inbound
                ),
                digitalocean.FirewallInboundRuleArgs(protocol="icmp", source_addresses=_EVERYWHERE),
            ],
            outbound_rules=[
                digitalocean.FirewallOutboundRuleArgs(
                    protocol=protocol, port_range=ports, destination_addresses=_EVERYWHERE
                )
                for protocol, ports in (("tcp", "1-65535"), ("udp", "1-65535"), ("icmp", None))
            ],
            opts=self._child,
        )
