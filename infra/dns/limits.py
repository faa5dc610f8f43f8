"""What a DNS provider allows (DR-2): the lowest time to live of a record."""

from __future__ import annotations

from dataclasses import dataclass

from infra.config.model import CloudflareDns, Dns

CLOUDFLARE_LOWEST = {"free": 60, "pro": 60, "business": 60, "enterprise": 30}


@dataclass(frozen=True)
class TimeToLive:
    """Seconds that records are served with, and why they are not what was asked for."""

    seconds: int
    warning: str | None = None


def time_to_live(dns: Dns) -> TimeToLive:
    """Time to live of the environment's records: what is configured, or the lowest that is accepted."""
    if isinstance(dns, CloudflareDns) and dns.ttl < CLOUDFLARE_LOWEST[dns.plan]:
        lowest = CLOUDFLARE_LOWEST[dns.plan]
        return TimeToLive(
            lowest,
            f"icupa:dns.ttl is {dns.ttl} s, Cloudflare (plan {dns.plan}) accepts no less than {lowest} s: "
            f"{lowest} s are used, and a failover is seen that much later",
        )
    return TimeToLive(dns.ttl)
