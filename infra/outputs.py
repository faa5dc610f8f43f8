"""Outputs of a stack (docs/architecture.md): what inventory and procedures read; no values of secrets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.config.model import Stack
from infra.dns.limits import time_to_live
from infra.dns.names import certificate_names
from infra.hosts.model import Host
from infra.services import names


def settings(stack: Stack, trust: Sequence[str]) -> dict[str, Any]:
    """What roles and procedures need of the configuration."""
    dns = stack.dns.model_dump(mode="json")
    dns["ttl"] = time_to_live(stack.dns).seconds
    return {
        "registry": stack.registry.model_dump(mode="json"),
        "resolvers": [str(resolver) for resolver in stack.resolvers],
        "trust": list(trust),
        "dns": dns,
        "acme": stack.acme.model_dump(mode="json"),
        "login": stack.login.model_dump(mode="json"),
        "switches": stack.switches.as_environment(),
        "certificate_names": list(certificate_names(stack)),
        "edge": {"subnet": str(names.EDGE_SUBNET), "proxy": str(names.TRAEFIK_ADDRESS)},
    }


def urls(stack: Stack, hosts: Sequence[Host]) -> dict[str, str]:
    """Addresses that people open."""
    regional = {host.name: f"https://{stack.regional_name(host.region)}" for host in hosts}
    return {"service": f"https://{stack.domain}", **regional, "login": stack.login.issuer}


def secretstore(stack: Stack) -> dict[str, Any]:
    """Where values of secrets are: the driver's options, and the record whose store they are in."""
    return {**stack.secretstore.model_dump(mode="json", exclude_none=True), "record": record(stack)}


def record(stack: Stack) -> dict[str, Any]:
    """Store of the environment's record."""
    return stack.record.model_dump(mode="json", exclude_none=True)
