"""Both runtimes say the same of every service, since both say what its definition says (K8S-4)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from infra.config.load import load_file
from infra.config.model import Role, Stack
from infra.runtimes import compose
from infra.runtimes.kubernetes import Manifest, cluster_context, render
from infra.services.context import Context
from infra.services.model import CommandProbe, HttpProbe, Service, Topology
from infra.services.topology import topology
from tests.unit.runtimes.clusters import (
    CERTIFICATE,
    SELF_HOSTED,
    STACKS,
    find,
    objects_of,
    pod_specs,
    stack_of,
    state,
)

SERVICES = 9
RUNTIME_DIFFERENCES = {
    "traefik": {"environment", "files", "directories", "volumes"},
    "prometheus": {"files"},
    "oauth2-proxy": {"files"},
}
"""What follows from the platform: where routes and certificates come from, names and networks of others."""
CASES = [(stack, role) for stack in STACKS for role in Role]

Side = dict[str, Any]
Rendered = tuple[Topology, compose.RenderedProject, list[Manifest]]


def both(stack: str, role: Role) -> Rendered:
    loaded = load_file(stack)
    machine = next(machine for machine in loaded.hosts.machines if machine.role is role)
    trust = (CERTIFICATE,) if loaded.trust else ()
    services = topology(Context(stack, loaded, machine.region, role, trust))
    project = compose.render(services, state().images)
    return services, project, objects_of(stack, role, data=SELF_HOSTED)


@pytest.fixture(params=CASES, ids=[f"{stack}-{role}" for stack, role in CASES])
def rendered(request: pytest.FixtureRequest) -> Rendered:
    stack, role = request.param
    return both(stack, role)


def on_a_host(service: Service, project: compose.RenderedProject) -> Side:
    """A service as Compose gets it; the first slot's where there are slots."""
    name = f"{service.name}-{service.slots[0]}" if service.slots else service.name
    item = project["compose"]["services"][name]
    variables = {key: value.replace("$$", "$") for key, value in item.get("environment", {}).items()}
    variables |= {name: project["env_files"][".env"][name] for name in service.project_variables}
    runtime: list[str] = []
    for file in item.get("env_file", []):
        variables |= project["env_files"][file]
        runtime += project["runtime"].get(file, [])
    contents = {file["path"]: file["content"] for file in project["files"]}
    binds = {
        mount["target"]: mount["source"].removeprefix("./")
        for mount in item.get("volumes", [])
        if mount["type"] == "bind"
    }
    whole = {directory.source for directory in service.directories}
    given = {
        path + each.removeprefix(source): content
        for path, source in binds.items()
        for each, content in contents.items()
        if each == source or (each.startswith(f"{source}/") and source not in whole)
    }
    health = item.get("healthcheck")
    return {
        "environment": variables,
        "runtime": sorted(runtime),
        "files": given,
        "directories": sorted(path for path, source in binds.items() if source in whole),
        "volumes": sorted(mount["target"] for mount in item.get("volumes", []) if mount["type"] == "volume"),
        "scratch": sorted(text.split(",")[0].replace(":size=", " ") for text in item.get("tmpfs", [])),
        "user": item["user"],
        "cpus": item["cpus"],
        "memory": item["mem_limit"],
        "reserved": item["mem_reservation"],
        "command": [word.replace("$$", "$") for word in item.get("command", [])],
        "entrypoint": [word.replace("$$", "$") for word in item.get("entrypoint", [])],
        "probe": health
        and {
            "interval": math.ceil(float(health["interval"][:-1])),
            "timeout": math.ceil(float(health["timeout"][:-1])),
            "failures": health["retries"],
            "start": float(health["start_period"][:-1]),
        },
        "published": sorted((int(port["published"]), port["target"]) for port in public(item)),
    }


def public(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [port for port in item.get("ports", []) if "host_ip" not in port]


def in_a_cluster(service: Service, objects: list[Manifest]) -> Side:
    """The same of a service's pods, with what they refer to looked up."""
    spec = pod_specs(objects)[service.name]
    (container,) = spec["containers"]
    held: dict[tuple[str, str], dict[str, str]] = {
        (item["kind"], item["metadata"]["name"]): item.get("data") or item["stringData"]
        for item in objects
        if item["kind"] in {"ConfigMap", "Secret"}
    }
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        variables |= held[kind, source["configMapRef" if kind == "ConfigMap" else "secretRef"]["name"]]
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    mounts = container.get("volumeMounts", [])
    files = {}
    for mount in (mount for mount in mounts if "subPath" in mount):
        volume = volumes[mount["name"]]
        key = (
            ("ConfigMap", volume["configMap"]["name"])
            if "configMap" in volume
            else ("Secret", volume["secret"]["secretName"])
        )
        files[mount["mountPath"]] = held[key][mount["subPath"]]
    whole = [mount for mount in mounts if "subPath" not in mount]
    probe, startup = container.get("readinessProbe"), container.get("startupProbe")
    security, limits = spec["securityContext"], container["resources"]
    front = [
        port
        for item in objects
        if item["kind"] == "Service"
        and item["spec"].get("type") == "LoadBalancer"
        and item["metadata"]["name"] == service.name
        for port in item["spec"]["ports"]
    ]
    return {
        "environment": variables,
        "runtime": sorted(item["name"] for item in container.get("env", [])),
        "files": files,
        "directories": sorted(
            mount["mountPath"] for mount in whole if "configMap" in volumes.get(mount["name"], {})
        ),
        "volumes": sorted(mount["mountPath"] for mount in whole if mount["name"] not in volumes),
        "scratch": sorted(
            f"{mount['mountPath']} {volumes[mount['name']]['emptyDir']['sizeLimit'].replace('Mi', 'm')}"
            for mount in whole
            if "emptyDir" in volumes.get(mount["name"], {})
        ),
        "user": f"{security['runAsUser']}:{security['runAsGroup']}",
        "cpus": int(limits["limits"]["cpu"].removesuffix("m")) / 1000,
        "memory": limits["limits"]["memory"].replace("Mi", "m"),
        "reserved": limits["requests"]["memory"].replace("Mi", "m"),
        "command": [word.replace("$$", "$") for word in container.get("args", [])],
        "entrypoint": [word.replace("$$", "$") for word in container.get("command", [])],
        "probe": probe
        and {
            "interval": probe["periodSeconds"],
            "timeout": probe["timeoutSeconds"],
            "failures": probe["failureThreshold"],
            "start": float(startup["periodSeconds"] * startup["failureThreshold"]),
        },
        "published": sorted((port["port"], port["targetPort"]) for port in front),
    }


def test_every_service_is_the_same_on_both(rendered: Rendered) -> None:
    services, project, objects = rendered
    compared = 0
    for service in services.services:
        host, cluster = on_a_host(service, project), in_a_cluster(service, objects)
        differences = {key for key in host if host[key] != cluster[key]}
        expected = RUNTIME_DIFFERENCES.get(service.name, set())
        assert differences == expected, (service.name, differences)
        compared += 1
    assert compared == SERVICES == len(pod_specs(objects))
    slots = sum(len(service.slots) - 1 for service in services.services if service.slots)
    assert len(project["compose"]["services"]) == SERVICES + slots


def test_ports_that_are_probed_or_called_are_the_same(rendered: Rendered) -> None:
    services, project, objects = rendered
    probes = 0
    for service in services.services:
        (container,) = pod_specs(objects)[service.name]["containers"]
        found = {(port["name"], port["containerPort"]) for port in container.get("ports", [])}
        assert found == {(port.name, port.number) for port in service.ports}
        if service.health is None:
            assert "readinessProbe" not in container
            continue
        check = service.health.readiness.check
        name = f"{service.name}-{service.slots[0]}" if service.slots else service.name
        test = project["compose"]["services"][name]["healthcheck"]["test"]
        if isinstance(check, HttpProbe):
            assert container["readinessProbe"]["httpGet"] == {"path": check.path, "port": check.port}
            assert f"/{check.port};" in test[-1]
            assert f"GET {check.path} HTTP" in test[-1]
        else:
            assert isinstance(check, CommandProbe)
            assert container["readinessProbe"]["exec"]["command"] == test[1:]
        assert ("livenessProbe" in container) == (service.health.liveness is not None)
        probes += 1
    assert probes == SERVICES - 1


def test_what_the_platform_decides_is_all_that_differs(rendered: Rendered) -> None:
    services, project, objects = rendered

    def text(name: str, end: str) -> tuple[str, str]:
        service = services.service(name)
        (path,) = (file.path for file in service.files if file.source.endswith(end))
        return on_a_host(service, project)["files"][path], in_a_cluster(service, objects)["files"][path]

    pairs = zip(*(side.splitlines() for side in text("oauth2-proxy", ".cfg")), strict=True)
    assert [one.split(" = ")[0] for one, other in pairs if one != other] == ["trusted_proxy_ips"]
    host, cluster = (yaml.safe_load(side) for side in text("traefik", "traefik.yml"))
    differing = {key for key in host.keys() | cluster.keys() if host.get(key) != cluster.get(key)}
    assert differing == {"providers", "certificatesResolvers"}
    host, cluster = (yaml.safe_load(side) for side in text("prometheus", "prometheus.yml"))
    jobs = [[job["job_name"] for job in side.pop("scrape_configs")] for side in (host, cluster)]
    assert jobs[0] == jobs[1]
    assert host == cluster


@pytest.mark.parametrize("stack", STACKS)
def test_one_change_of_a_variable_shows_on_both(stack: str) -> None:
    def sides(loaded: Stack) -> tuple[Any, Any, str]:
        machine, settings = loaded.hosts.machines[0], loaded.kubernetes
        assert settings is not None
        context = Context(stack, loaded, machine.region, machine.role)
        objects = render(cluster_context(stack, loaded, settings.clusters[0], ()), state())
        project = compose.render(topology(context), state().images)
        made = find(objects, "ConfigMap", "agents-env")
        return project["env_files"]["agents-service.env"], made["data"], made["metadata"]["name"]

    loaded = stack_of(stack, data=SELF_HOSTED)
    variables = loaded.variables.model_copy(update={"OPENAI_DEFAULT_MODEL": "gpt-9"})
    before, after = sides(loaded), sides(loaded.model_copy(update={"variables": variables}))
    for old, new in zip(before[:2], after[:2], strict=True):
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        assert changed == {"OPENAI_DEFAULT_MODEL"}
    assert before[2] != after[2]
