"""Records that Pulumi owns: regional names and delegations of ACME challenges.

The public record is none of them: bootstrap makes it and failover writes it (design rule 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_cloudflare as cloudflare

from infra.config.model import CloudflareDns, Stack
from infra.dns.limits import time_to_live
from infra.dns.names import certificate_names, delegation
from infra.hosts.model import Host

_DELEGATION_TTL = 300


@dataclass(frozen=True)
class RecordsArgs:
    """Hosts give the regional names their addresses."""

    stack: Stack
    hosts: Sequence[Host]


class Records(pulumi.ComponentResource):
    """Records of an environment, where its zone takes them from Pulumi: at Cloudflare, never proxied.

    A server of RFC 2136 has them in its zone file, which whoever runs the server owns.
    """

    def __init__(self, name: str, args: RecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("icupa:dns:Records", name, None, opts)
        ttl = time_to_live(args.stack.dns)
        if ttl.warning:
            pulumi.warn(ttl.warning, resource=self)
        if isinstance(args.stack.dns, CloudflareDns):
            self._cloudflare(args.stack, args.stack.dns, args.hosts, ttl.seconds)
        self.register_outputs({})

    def _cloudflare(self, stack: Stack, dns: CloudflareDns, hosts: Sequence[Host], ttl: int) -> None:
        child = pulumi.ResourceOptions(parent=self)
        for host in hosts:
            cloudflare.DnsRecord(
                f"region-{host.region}",
                zone_id=dns.zone_id,
                name=stack.regional_name(host.region),
                type="A",
                content=host.address,
                ttl=ttl,
                proxied=False,
                comment=f"host {host.name}",
                opts=child,
            )
        for certificate_name in certificate_names(stack):
            owner, target = delegation(stack, certificate_name)
            cloudflare.DnsRecord(
                f"challenge-{certificate_name}",
                zone_id=dns.zone_id,
                name=owner,
                type="CNAME",
                content=target,
                ttl=_DELEGATION_TTL,
                proxied=False,
                comment="delegation of ACME challenges",
                opts=child,
            )
