"""What the role `edge` is told: files of the proxy, and what it must answer."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from infra.services.model import Slot
from infra.site import edge
from infra.site.project import ProjectError
from infra.site.runtime import HostRuntime
from tests.unit.ansible.conftest import load_plugin


def routes(project: dict[str, Any], runtime: HostRuntime) -> dict[str, Any]:
    files = edge.route_files(project, runtime)
    assert {(file["mode"], file["uid"], file["gid"]) for file in files} == {("0444", 0, 0)}
    return {file["path"]: yaml.safe_load(file["content"])["http"] for file in files}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_record_decides_on_the_maintenance_answer(
    project: dict[str, Any], runtime: HostRuntime, enabled: bool
) -> None:
    changed = runtime.model_copy(update={"maintenance": enabled})
    found = routes(project, changed)
    assert list(found) == ["traefik/dynamic/active.yml", "traefik/dynamic/maintenance.yml"]
    assert ("routers" in found["traefik/dynamic/maintenance.yml"]) is enabled
    (check,) = [check for check in edge.checks(changed) if "maintenance" in check["path"]]
    assert check["status"] == (200 if enabled else 404)


def test_a_route_to_no_service_of_the_project_is_refused(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    del project["compose"]["services"]["maintenance"]
    with pytest.raises(ProjectError, match=r"maintenance.yml: names maintenance, which is no service"):
        edge.route_files(project, runtime)


def test_the_filter_takes_the_variables_of_the_inventory(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    plugin = load_plugin("filter", "edge")
    variables = runtime.model_dump(mode="json")
    assert plugin.route_files(project, variables) == edge.route_files(project, runtime)
    assert plugin.edge_checks(variables) == edge.checks(runtime)
    (check,) = plugin.maintenance_checks(variables)
    assert check in edge.checks(runtime)
    assert "maintenance" in check["path"]


def test_the_last_good_release_is_the_fallback_while_it_runs(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    switched = runtime.model_copy(
        update={
            "active_slot": Slot.GREEN,
            "running": (Slot.BLUE, Slot.GREEN),
            "fallback": Slot.BLUE,
        }
    )
    services = routes(project, switched)["traefik/dynamic/active.yml"]["services"]
    assert services["agents"]["failover"]["fallback"] == "agents-blue"
    asked = {check["path"]: check.get("contains") for check in edge.checks(switched)}
    assert asked["/api/http/services/agents@file"] == '"service":"agents-green","fallback":"agents-blue"'
    assert asked["/api/http/services/agents-green@file"] == '"http://agents-green:8080":"UP"'
    assert edge.idle_services(project, switched) == []
    assert edge.idle_services(project, runtime) == ["agents-green", "migrate-green"]
