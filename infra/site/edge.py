"""What the edge of one host must do: route to the slot that serves, and answer (VM-5, DEP-6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import yaml

from infra.services import names
from infra.services.agents import slot_name
from infra.services.traefik import (
    ACTIVE_ROUTE,
    MAINTENANCE_ROUTE,
    active_route,
    maintenance_route,
    server_url,
)
from infra.site.project import ProjectError, parse_project
from infra.site.runtime import HostRuntime

_MODE = "0444"
_OK, _NOT_FOUND = 200, 404


def _servers(path: str, route: Any) -> list[str]:
    """URLs of all servers in a dynamic configuration; ProjectError for anything else than one."""
    try:
        services = route["http"]["services"]
        return [
            server["url"]
            for service in services.values()
            if "failover" not in service
            for server in service["loadBalancer"]["servers"]
        ]
    except (AttributeError, KeyError, TypeError):
        raise ProjectError(f"{path}: not a configuration with services") from None


def route_files(raw: Mapping[str, Any], runtime: HostRuntime) -> list[dict[str, Any]]:
    """Files that say where requests go, checked: an empty or wrong one would answer 404 to everybody."""
    project = parse_project(raw)
    texts = {
        ACTIVE_ROUTE: active_route(runtime.active_slot, runtime.fallback),
        MAINTENANCE_ROUTE: maintenance_route(runtime.maintenance),
    }
    for path, text in texts.items():
        servers = _servers(path, yaml.safe_load(text))
        if not servers:
            raise ProjectError(f"{path}: names no server")
        for url in servers:
            if (host := urlsplit(url).hostname) not in project.compose["services"]:
                raise ProjectError(f"{path}: names {host}, which is no service of the project")
    return [
        {"path": path, "content": text, "mode": _MODE, "uid": 0, "gid": 0} for path, text in texts.items()
    ]


def _route_checks(runtime: HostRuntime) -> list[dict[str, Any]]:
    """That the proxy has read the route and finds the slot healthy."""
    slot, said = runtime.active_slot, {names.AGENTS: f'"{server_url(runtime.active_slot)}":"UP"'}
    if runtime.fallback is not None:
        said = {
            names.AGENTS: f'"service":"{slot_name(slot)}","fallback":"{slot_name(runtime.fallback)}"',
            slot_name(slot): said[names.AGENTS],
        }
    return [
        {
            "service": names.TRAEFIK,
            "port": names.TRAEFIK_INTERNAL_PORT,
            "path": f"/api/http/services/{service}@file",
            "contains": text,
        }
        for service, text in said.items()
    ]


def maintenance_checks(runtime: HostRuntime) -> list[dict[str, Any]]:
    """That the proxy gives the maintenance answer, or does not; the service itself may be in trouble."""
    return [
        {
            "service": names.TRAEFIK,
            "port": names.TRAEFIK_INTERNAL_PORT,
            "path": f"/api/http/routers/{names.MAINTENANCE}@file",
            "status": _OK if runtime.maintenance else _NOT_FOUND,
        }
    ]


def checks(runtime: HostRuntime) -> list[dict[str, Any]]:
    """What proxy and login answer when the slot serves, for the module `service_answers`."""
    return [
        *_route_checks(runtime),
        *maintenance_checks(runtime),
        {"service": names.OAUTH2_PROXY, "port": names.OAUTH2_PROXY_PORT, "path": "/ready", "contains": ""},
    ]


def idle_services(raw: Mapping[str, Any], runtime: HostRuntime) -> list[str]:
    """Services of slots that must not run."""
    services: Mapping[str, Any] = parse_project(raw).compose["services"]
    return sorted(
        name
        for name, service in services.items()
        if service.get("profiles") and set(runtime.running).isdisjoint(service["profiles"])
    )
