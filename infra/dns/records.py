"""Records that Pulumi owns: regional names and delegations of ACME challenges.

The public record is none of them: bootstrap makes it and failover writes it (design rule 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from infra.config.model import CloudflareDns, Stack
from infra.dns.limits import time_to_live
from infra.hosts.model import Host


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
            # Its SDK takes two seconds to import: only where it is used.
            from infra.dns.cloudflare import make_records  # noqa: PLC0415

            child = pulumi.ResourceOptions(parent=self)
            make_records(args.stack, args.stack.dns, args.hosts, ttl.seconds, child)
        self.register_outputs({})
