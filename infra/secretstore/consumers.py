"""Who reads a secret: what services and stack files refer to, and what the catalogue adds to that (SEC-1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.config.model import Stack
from infra.secrets import references
from infra.secrets.catalogue import CATALOGUE, CONTROLLER
from infra.services.context import Context
from infra.services.model import Service, Topology
from infra.services.topology import topology


def referred(service: Service, of: Topology) -> set[str]:
    """Secrets that a service's definition refers to, and the project's file for it."""
    texts = [
        *service.environment.values(),
        *(of.project_file.variables.get(name, "") for name in service.project_variables),
        *(value for file in service.environment_files for value in file.variables.values()),
        *(file.content for file in service.files),
    ]
    return {name for text in texts for name in references.find(text)}


def readers(name: str, stack: Stack) -> dict[str, tuple[str, ...]]:
    """Services of a stack's hosts that read a secret, each with its regions."""
    found: dict[str, tuple[str, ...]] = {}
    for machine in stack.hosts.machines:
        context = Context(environment="", stack=stack, region=machine.region, role=machine.role)
        services = topology(context)
        for service in services.services:
            if name in referred(service, services):
                found[service.name] = (*found.get(service.name, ()), machine.region)
    return found


def settings(name: str, stack: Stack) -> list[str]:
    """Keys of a stack's file that refer to a secret: `icupa:registry.password`."""
    reference = references.reference(name)
    return [f"icupa:{key}" for key, text in _texts(stack.model_dump(mode="json")) if reference in text]


def consumers(name: str, stack: Stack | None) -> list[str]:
    """All that read a secret, in words; without a stack, those that the catalogue adds."""
    services = readers(name, stack) if stack else {}
    found = [f"{service} in {', '.join(regions)}" for service, regions in services.items()]
    if stack and not found:
        found += [f"{CONTROLLER} ({key})" for key in settings(name, stack)]
    return [*found, *CATALOGUE[name].consumers]


def _texts(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in document.items():
        path = f"{above}.{key}" if above else key
        if isinstance(value, Mapping):
            yield from _texts(value, path)
        elif isinstance(value, str):
            yield path, value
