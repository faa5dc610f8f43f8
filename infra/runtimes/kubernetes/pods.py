"""Pods of services: containers, their variables and files, and what they may not do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from infra.runtimes.kubernetes.model import (
    PRIORITY_CLASS,
    SWITCHES,
    Cluster,
    Manifest,
    RenderError,
    config_map,
    labels,
    manifest,
    secret,
)
from infra.secrets.references import REFERENCE
from infra.services.agents import SWITCHES_DIRECTORY, SWITCHES_FILE
from infra.services.model import CommandProbe, Condition, File, Health, Probe, Resources, Service

ENDPOINT_LAG_SECONDS = 10
"""How long a pod still gets requests after it was told to stop: proxies and load balancers learn it later."""
_SWITCHES_KEY = PurePosixPath(SWITCHES_FILE).name
_PRIVILEGED_PORTS = 1024
_ADDABLE = {"NET_BIND_SERVICE"}
"""What the restricted pod security standard lets a container add."""
_READABLE_BY_GROUP = 0o440


@dataclass
class Configuration:
    """Variables and files of a service: objects that hold them, and how a container gets them."""

    objects: list[Manifest] = field(default_factory=list)
    env: list[dict[str, Any]] = field(default_factory=list)
    env_from: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)


def configuration(service: Service, cluster: Cluster) -> Configuration:
    """Variables and files of a service; raises RenderError."""
    result = Configuration()
    _variables(service, cluster, result)
    _files(service, cluster, result)
    for directory in service.directories:
        if directory.source != SWITCHES_DIRECTORY:
            raise RenderError(
                f"{service.name}: found directory {directory.source}; accepted: {SWITCHES_DIRECTORY}"
            )
        items = [{"key": _SWITCHES_KEY, "path": _SWITCHES_KEY}]
        result.volumes.append({"name": "switches", "configMap": {"name": SWITCHES, "items": items}})
        result.mounts.append({"name": "switches", "mountPath": directory.path, "readOnly": True})
    for index, scratch in enumerate(service.scratch):
        name = f"scratch-{index}"
        size = {"medium": "Memory", "sizeLimit": f"{scratch.size_mib}Mi"}
        result.volumes.append({"name": name, "emptyDir": size})
        result.mounts.append({"name": name, "mountPath": scratch.path})
    result.mounts += [{"name": volume.name, "mountPath": volume.path} for volume in service.volumes]
    return result


def switches(cluster: Cluster) -> list[Manifest]:
    """The ConfigMap of switches, for the services that read them; raises RenderError."""
    readers = [
        (service, file)
        for service in cluster.topology.services
        for file in service.environment_files
        if file.runtime
    ]
    if not readers:
        return []
    (service, file) = readers[0]
    known = cluster.state.switches
    if set(known) != set(file.runtime):
        raise RenderError(f"switches: found {', '.join(sorted(known))}; accepted: {', '.join(file.runtime)}")
    values = {name: str(known[name]).lower() for name in file.runtime}
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    return [
        manifest(
            "v1",
            "ConfigMap",
            SWITCHES,
            cluster.platform.namespace_of(service.name),
            labels=labels(service.name),
            data={**values, _SWITCHES_KEY: text},
        )
    ]


def template(service: Service, cluster: Cluster, given: Configuration) -> Manifest:
    """Pod template of a service."""
    spec: dict[str, Any] = {
        "serviceAccountName": service.name,
        "automountServiceAccountToken": service.api_access,
        # Variables such as REDIS_PORT=tcp://… would pass for settings.
        "enableServiceLinks": False,
        "priorityClassName": PRIORITY_CLASS,
        "securityContext": _pod_security(service),
        "terminationGracePeriodSeconds": service.stop_seconds + drain_seconds(service),
        "containers": [_container(service, cluster, given)],
    }
    if service.job:
        spec["restartPolicy"] = "Never"
    if waits := _waits(service, cluster, given):
        spec["initContainers"] = waits
    if given.volumes:
        spec["volumes"] = given.volumes
    if service.replicated:
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(service.name)},
                "matchLabelKeys": ["pod-template-hash"],
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ]
    return {"metadata": {"labels": labels(service.name)}, "spec": spec}


def drain_seconds(service: Service) -> int:
    """How long a stop waits before the service is told: others must be there to take its requests."""
    return ENDPOINT_LAG_SECONDS if service.replicated else 0


def _variables(service: Service, cluster: Cluster, result: Configuration) -> None:
    values = dict(service.environment)
    for file in service.environment_files:
        values |= file.variables
        result.env += [
            {"name": name, "valueFrom": {"configMapKeyRef": {"name": SWITCHES, "key": name}}}
            for name in file.runtime
        ]
    project = cluster.topology.project_file.variables
    if missing := [name for name in service.project_variables if name not in project]:
        raise RenderError(f"{service.name}: no variable {', '.join(missing)}; accepted: {', '.join(project)}")
    values |= {name: project[name] for name in service.project_variables}
    secrets = {name: value for name, value in values.items() if REFERENCE.search(value)}
    plain = {name: value for name, value in values.items() if name not in secrets}
    namespace, name = cluster.platform.namespace_of(service.name), f"{service.name}-env"
    if plain:
        made = config_map(name, namespace, plain, service.name)
        result.objects.append(made)
        result.env_from.append({"configMapRef": {"name": made["metadata"]["name"]}})
    if secrets:
        made = secret(name, namespace, secrets, cluster.state.secrets, service.name)
        result.objects.append(made)
        result.env_from.append({"secretRef": {"name": made["metadata"]["name"]}})


def _files(service: Service, cluster: Cluster, result: Configuration) -> None:
    hidden = [file for file in service.files if file.secret or REFERENCE.search(file.content)]
    plain = [file for file in service.files if file not in hidden]
    namespace = cluster.platform.namespace_of(service.name)
    if plain:
        made = config_map(f"{service.name}-files", namespace, _contents(plain), service.name)
        result.objects.append(made)
        source: dict[str, Any] = {"configMap": {"name": made["metadata"]["name"]}}
        _mount_files("files", source, plain, result)
    if hidden:
        versions = cluster.state.secrets
        made = secret(f"{service.name}-files", namespace, _contents(hidden), versions, service.name)
        result.objects.append(made)
        source = {"secret": {"secretName": made["metadata"]["name"], "defaultMode": _READABLE_BY_GROUP}}
        _mount_files("secret-files", source, hidden, result)


def _mount_files(name: str, source: dict[str, Any], files: Iterable[File], result: Configuration) -> None:
    result.volumes.append({"name": name, **source})
    result.mounts += [
        {"name": name, "mountPath": file.path, "subPath": _key(file), "readOnly": True} for file in files
    ]


def _key(file: File) -> str:
    return file.source.replace("/", ".")


def _contents(files: Iterable[File]) -> dict[str, str]:
    return {_key(file): file.content for file in files}


def _container(service: Service, cluster: Cluster, given: Configuration) -> dict[str, Any]:
    container = _confined(service, cluster, given, service.name)
    if service.entrypoint:
        container["command"] = [_literal(word) for word in service.entrypoint]
    if service.command:
        container["args"] = [_literal(word) for word in service.command]
    if service.ports:
        container["ports"] = [
            {"name": port.name, "containerPort": port.number, "protocol": "TCP"} for port in service.ports
        ]
    if service.health:
        container |= _probes(service.health)
    if seconds := drain_seconds(service):
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": seconds}}}
    return container


def _waits(service: Service, cluster: Cluster, given: Configuration) -> list[dict[str, Any]]:
    """Init containers that end once jobs have done their work; other dependencies are readiness's to tell."""
    waits = []
    for dependency in service.dependencies:
        if dependency.condition is Condition.COMPLETED:
            job = cluster.topology.service(dependency.service)
            if not job.check:
                raise RenderError(f"{service.name} waits for {job.name}, which has no check")
            wait = _confined(service, cluster, given, f"wait-for-{job.name}")
            wait["image"] = cluster.image(job)
            wait["args"] = [_literal(word) for word in job.check]
            wait["resources"] = _resources(job.resources)
            waits.append(wait)
    return waits


def _confined(service: Service, cluster: Cluster, given: Configuration, name: str) -> dict[str, Any]:
    """A container with what every one of a service's has: image, variables, mounts and limits."""
    container: dict[str, Any] = {
        "name": name,
        "image": cluster.image(service),
        "imagePullPolicy": "IfNotPresent",
        "resources": _resources(service.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], **_added(service)},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if given.env:
        container["env"] = given.env
    if given.env_from:
        container["envFrom"] = given.env_from
    if given.mounts:
        container["volumeMounts"] = given.mounts
    return container


def _literal(text: str) -> str:
    """Text of a command in which Kubernetes replaces nothing."""
    return text.replace("$", "$$")


def _added(service: Service) -> dict[str, list[str]]:
    if refused := sorted(set(service.capabilities) - _ADDABLE):
        raise RenderError(
            f"{service.name}: found capabilities {', '.join(refused)}; accepted: {', '.join(_ADDABLE)}"
        )
    return {"add": sorted(service.capabilities)} if service.capabilities else {}


def _pod_security(service: Service) -> dict[str, Any]:
    security: dict[str, Any] = {
        "fsGroup": service.uid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "runAsGroup": service.uid,
        "runAsNonRoot": True,
        "runAsUser": service.uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    lowest = min((port.number for port in service.ports), default=_PRIVILEGED_PORTS)
    if lowest < _PRIVILEGED_PORTS:
        # One of the safe ones: every engine sets it for containers, not every cluster does for pods.
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": str(lowest)}]
    return security


def _resources(resources: Resources) -> dict[str, Any]:
    return {
        "requests": {
            "cpu": f"{resources.reserved_cpus * 1000:.0f}m",
            "memory": f"{resources.reserved_memory_mib}Mi",
        },
        "limits": {"cpu": f"{resources.cpus * 1000:.0f}m", "memory": f"{resources.memory_mib}Mi"},
    }


def _probes(health: Health) -> dict[str, Any]:
    probes = {"readinessProbe": _probe(health.readiness)}
    if health.startup:
        probes["startupProbe"] = _probe(health.startup)
    if health.liveness:
        probes["livenessProbe"] = _probe(health.liveness)
    return probes


def _probe(probe: Probe) -> dict[str, Any]:
    """A probe whose patience in all is at least that of the definition: Kubernetes counts whole seconds."""
    check = probe.check
    action: dict[str, Any]
    if isinstance(check, CommandProbe):
        action = {"exec": {"command": [_literal(word) for word in check.command]}}
    else:
        action = {"httpGet": {"path": check.path, "port": check.port}}
    period = math.ceil(probe.interval)
    return {
        **action,
        "periodSeconds": period,
        "timeoutSeconds": math.ceil(probe.timeout),
        "failureThreshold": math.ceil(probe.interval * probe.failures / period),
    }
