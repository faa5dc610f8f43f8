"""Names that an environment has, whoever serves its zone."""

from __future__ import annotations

from infra.config.model import Stack


def certificate_names(stack: Stack) -> tuple[str, ...]:
    """Names that certificates are for: the public one and each region's."""
    return (stack.domain, *(stack.regional_name(machine.region) for machine in stack.hosts.machines))


def delegation(stack: Stack, name: str) -> tuple[str, str]:
    """Owner and target of the CNAME that sends the ACME challenge of `name` into the challenge zone."""
    label = name.removesuffix(f".{stack.dns.zone}")
    return f"_acme-challenge.{name}", f"{label}.{stack.dns.challenge_zone}"
