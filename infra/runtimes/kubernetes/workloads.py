"""What keeps a service's pods running: Deployment, StatefulSet or Job, and what belongs to each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.runtimes.kubernetes import pods
from infra.runtimes.kubernetes.model import (
    PULL_SECRET,
    Cluster,
    Manifest,
    RenderError,
    content_hash,
    labels,
    manifest,
    secret,
)
from infra.services.model import Port, Service
from infra.services.platform import REPLICAS_SUFFIX

_ROLLOUT_MARGIN_SECONDS = 120
"""For the image to arrive and the scheduler to find a place, besides the service's own start."""
_JOB_DEADLINE_SECONDS = 900


def workload(service: Service, cluster: Cluster, pull_secret: Manifest) -> list[Manifest]:
    """All objects of a service but its routes and network policy; raises RenderError."""
    if service.replicated and service.volumes:
        raise RenderError(f"{service.name} is replicated and has volumes; accepted: one of them")
    given = pods.configuration(service, cluster)
    template = pods.template(service, cluster, given)
    objects = [_account(service, cluster, pull_secret), *given.objects]
    if service.job:
        return [*objects, _job(service, cluster, template)]
    objects += _services(service, cluster)
    if service.volumes:
        return [*objects, _stateful_set(service, cluster, template)]
    objects.append(_deployment(service, cluster, template))
    if service.replicated:
        objects += [_autoscaler(service, cluster), _disruption_budget(service, cluster)]
    return objects


def pull_secret(namespace: str, registry: str, versions: Mapping[str, str]) -> Manifest:
    """The registry's login, as the kubelet reads it."""
    return secret(
        PULL_SECRET,
        namespace,
        {".dockerconfigjson": registry},
        versions,
        PULL_SECRET,
        kind="kubernetes.io/dockerconfigjson",
    )


def _account(service: Service, cluster: Cluster, pull_secret: Manifest) -> Manifest:
    return _manifest(
        "v1",
        "ServiceAccount",
        service,
        cluster,
        automountServiceAccountToken=False,
        imagePullSecrets=[{"name": pull_secret["metadata"]["name"]}],
    )


def _manifest(
    api_version: str, kind: str, service: Service, cluster: Cluster, name: str = "", **content: Any
) -> Manifest:
    namespace = cluster.platform.namespace_of(service.name)
    return manifest(
        api_version, kind, name or service.name, namespace, labels=labels(service.name), **content
    )


def _selector(service: Service) -> dict[str, Any]:
    return {"matchLabels": labels(service.name)}


def _deployment(service: Service, cluster: Cluster, template: Manifest) -> Manifest:
    startup = service.health.startup_seconds if service.health else 0
    spec: dict[str, Any] = {
        "selector": _selector(service),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": int(startup) + _ROLLOUT_MARGIN_SECONDS,
        "revisionHistoryLimit": 5,
        "template": template,
    }
    if not service.replicated:
        spec["replicas"] = 1  # of the others the autoscaler is the owner
    return _manifest("apps/v1", "Deployment", service, cluster, spec=spec)


def _stateful_set(service: Service, cluster: Cluster, template: Manifest) -> Manifest:
    storage_class = cluster.settings.storage_class
    claims = [
        {
            "metadata": {"name": volume.name, "labels": labels(service.name)},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                **({"storageClassName": storage_class} if storage_class else {}),
                "resources": {"requests": {"storage": f"{volume.size_gib}Gi"}},
            },
        }
        for volume in service.volumes
    ]
    spec = {
        "replicas": 1,
        "serviceName": f"{service.name}{REPLICAS_SUFFIX}",
        "selector": _selector(service),
        "updateStrategy": {"type": "RollingUpdate"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "revisionHistoryLimit": 5,
        "template": template,
        "volumeClaimTemplates": claims,
    }
    return _manifest("apps/v1", "StatefulSet", service, cluster, spec=spec)


def _job(service: Service, cluster: Cluster, template: Manifest) -> Manifest:
    """A job is never changed: another image or other variables make another one."""
    spec = {
        "backoffLimit": 3,
        "activeDeadlineSeconds": _JOB_DEADLINE_SECONDS,
        "template": template,
    }
    name = f"{service.name}-{content_hash(spec)}"
    return _manifest("batch/v1", "Job", service, cluster, name, spec=spec)


def _services(service: Service, cluster: Cluster) -> list[Manifest]:
    """The service's own name, and one with the addresses of all replicas, for scrapes."""
    if not service.ports:
        return []
    public = [port for port in service.ports if port.public]
    selector = labels(service.name)
    spec: dict[str, Any] = {
        "type": "LoadBalancer" if public else "ClusterIP",
        "selector": selector,
        "ports": [_port(port) for port in public or service.ports],
    }
    if public:
        # Clients' addresses are kept, and a node without a pod of it takes no requests.
        spec["externalTrafficPolicy"] = "Local"
    headless = {"clusterIP": "None", "selector": selector, "ports": [_port(port) for port in service.ports]}
    return [
        _manifest("v1", "Service", service, cluster, spec=spec),
        _manifest("v1", "Service", service, cluster, f"{service.name}{REPLICAS_SUFFIX}", spec=headless),
    ]


def _port(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "port": port.published or port.number,
        "targetPort": port.number,
        "protocol": "TCP",
    }


def _autoscaler(service: Service, cluster: Cluster) -> Manifest:
    scaling = cluster.settings.scaling
    target = {"type": "Utilization", "averageUtilization": scaling.cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
        "minReplicas": scaling.minimum,
        "maxReplicas": scaling.maximum,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return _manifest("autoscaling/v2", "HorizontalPodAutoscaler", service, cluster, spec=spec)


def _disruption_budget(service: Service, cluster: Cluster) -> Manifest:
    spec = {
        "maxUnavailable": 1,
        "selector": _selector(service),
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return _manifest("policy/v1", "PodDisruptionBudget", service, cluster, spec=spec)
