"""Makes the outputs of a stack of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.config.model import Stack
from infra.dns.limits import time_to_live
from infra.dns.names import certificate_names
from infra.hosts.model import Host
from infra.outputs.model import EdgeOutput, Settings
from infra.secretstore import SecretConfig
from infra.services import names


def settings(stack: Stack, trust: Sequence[str]) -> dict[str, Any]:
    """What roles and procedures need of the configuration: `infra.outputs.model.Settings`."""
    dns = stack.dns.model_copy(update={"ttl": time_to_live(stack.dns).seconds})
    return Settings(
        registry=stack.registry,
        resolvers=stack.resolvers,
        trust=tuple(trust),
        dns=dns,
        acme=stack.acme,
        login=stack.login,
        switches=stack.switches,
        supabase=stack.supabase,
        certificate_names=certificate_names(stack),
        edge=EdgeOutput(subnet=names.EDGE_SUBNET, proxy=names.TRAEFIK_ADDRESS),
        metrics=stack.metrics,
        rollout=stack.rollout,
        commands=stack.commands,
        traces=stack.traces,
    ).model_dump(mode="json", exclude_none=True)


def urls(stack: Stack, hosts: Sequence[Host]) -> dict[str, str]:
    """Addresses that people open."""
    regional = {host.name: f"https://{stack.regional_name(host.region)}" for host in hosts}
    return {"service": f"https://{stack.domain}", **regional, "login": stack.login.issuer}


def secretstore(stack: Stack) -> dict[str, Any]:
    """Where values of secrets are: the driver's options, and the record whose store they are in."""
    return SecretConfig.of(stack).model_dump(mode="json", exclude_none=True)


def record(stack: Stack) -> dict[str, Any]:
    """Store of the environment's record."""
    return stack.record.model_dump(mode="json", exclude_none=True)
