"""Filters over a host's project and runtime state, for the role `edge`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from infra.site import edge
from infra.site.project import ProjectError
from infra.site.runtime import HostRuntime


def plain(value: dict[str, Any]) -> dict[str, Any]:
    """The value without Ansible's own kinds of text and mapping, which validators do not know."""
    return dict(json.loads(json.dumps(value)))


def route_files(project: dict[str, Any], runtime: dict[str, Any]) -> list[dict[str, Any]]:
    """The files that say to the proxy where requests go."""
    try:
        return edge.route_files(plain(project), HostRuntime.parse(plain(runtime)))
    except (ProjectError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from None


def edge_checks(runtime: dict[str, Any]) -> list[dict[str, Any]]:
    """What proxy and login must answer."""
    return edge.checks(HostRuntime.parse(plain(runtime)))


def maintenance_checks(runtime: dict[str, Any]) -> list[dict[str, Any]]:
    """What the proxy must answer, whether the service runs or not."""
    return edge.maintenance_checks(HostRuntime.parse(plain(runtime)))


def idle_services(project: dict[str, Any], runtime: dict[str, Any]) -> list[str]:
    """Services of slots that must not run."""
    return edge.idle_services(plain(project), HostRuntime.parse(plain(runtime)))


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to filter."""
        return {
            "route_files": route_files,
            "edge_checks": edge_checks,
            "maintenance_checks": maintenance_checks,
            "idle_services": idle_services,
        }
