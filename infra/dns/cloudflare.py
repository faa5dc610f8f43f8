"""Records at Cloudflare: DNS only, never proxied (002, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_cloudflare as cloudflare

from infra.config.model import CloudflareDns, Stack
from infra.dns.names import certificate_names, delegation
from infra.hosts.model import Host

_DELEGATION_TTL = 300


def make_records(
    stack: Stack, dns: CloudflareDns, hosts: Sequence[Host], ttl: int, opts: pulumi.ResourceOptions
) -> None:
    """Regional names, `ttl` in seconds, and delegations of challenges for all names with a certificate."""
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
            opts=opts,
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
            opts=opts,
        )
