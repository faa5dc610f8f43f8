"""Renders services to the objects of one cluster: pure, its result is JSON (K8S-1..5)."""

from __future__ import annotations

import json

from infra.config.model import Cluster as ClusterSettings
from infra.config.model import Kubernetes, ManagedData, NginxIngress, Registry, Stack
from infra.runtimes.kubernetes import edge, network, pods, workloads
from infra.runtimes.kubernetes.model import (
    LOGIN_NAMESPACE,
    NAMESPACE,
    PRIORITY_CLASS,
    Cluster,
    ClusterState,
    Manifest,
    RenderError,
    manifest,
)
from infra.services import names
from infra.services.context import Context
from infra.services.model import Topology
from infra.services.platform import Platform, Routing
from infra.services.topology import topology

__all__ = ["Cluster", "ClusterState", "Manifest", "RenderError", "cluster_context", "clusters", "render"]

_PRIORITY = 1_000_000
"""Above what a cluster runs besides, far below the system's own."""


def clusters(environment: str, stack: Stack) -> tuple[ClusterSettings, ...]:
    """Clusters of an environment; raises RenderError where it has none."""
    return _settings(environment, stack).clusters


def cluster_context(
    environment: str, stack: Stack, cluster: ClusterSettings, trust: tuple[str, ...]
) -> Context:
    """An environment as seen from one of its clusters; raises RenderError where it has none."""
    kubernetes = _settings(environment, stack)
    platform = Platform(
        proxies=tuple(str(network) for network in cluster.pod_networks),
        routing=Routing.FOREIGN if isinstance(kubernetes.ingress, NginxIngress) else Routing.API,
        namespace=NAMESPACE,
        namespaces={names.OAUTH2_PROXY: LOGIN_NAMESPACE},
        managed=kubernetes.data if isinstance(kubernetes.data, ManagedData) else None,
    )
    return Context(environment, stack, cluster.region, cluster.role, trust, platform)


def render(context: Context, state: ClusterState) -> list[Manifest]:
    """Objects of a cluster, in an order in which they can be applied; raises RenderError."""
    settings = _settings(context.environment, context.stack)
    cluster = Cluster(topology(context), context.platform, settings, state)
    return [
        *render_services(cluster, context.stack.registry),
        *edge.edge(context, cluster),
    ]


def render_services(cluster: Cluster, registry: Registry) -> list[Manifest]:
    """Everything but names, certificates and routes; raises RenderError."""
    services = cluster.topology.services
    _check(cluster.topology, cluster.state)
    namespaces = sorted({cluster.platform.namespace_of(service.name) for service in services})
    login = {"username": registry.username, "password": registry.password}
    pull_secrets = {
        namespace: workloads.pull_secret(
            namespace, json.dumps({"auths": {registry.host: login}}), cluster.state.secrets
        )
        for namespace in namespaces
    }
    objects = [_namespace(name) for name in namespaces]
    objects.append(
        manifest(
            "scheduling.k8s.io/v1", "PriorityClass", PRIORITY_CLASS, value=_PRIORITY, globalDefault=False
        )
    )
    objects += network.policies(cluster, namespaces)
    objects += pull_secrets.values()
    objects += pods.switches(cluster)
    for service in services:
        namespace = cluster.platform.namespace_of(service.name)
        objects += workloads.workload(service, cluster, pull_secrets[namespace])
    return objects


def _settings(environment: str, stack: Stack) -> Kubernetes:
    if stack.kubernetes is None:
        raise RenderError(
            f"stacks/Pulumi.{environment}.yaml: icupa:kubernetes: found nothing; accepted: a mapping with "
            + ", ".join(Kubernetes.model_fields)
        )
    return stack.kubernetes


def _check(services: Topology, state: ClusterState) -> None:
    problems = state.problems()
    known = {service.name for service in services.services}
    if len(known) != len(services.services):
        problems.append("two services have the same name")
    for service in services.services:
        if not service.slots and service.image not in state.images:
            problems.append(
                f"{service.name} has no image {service.image}; accepted: {', '.join(sorted(state.images))}"
            )
        problems += [
            f"{service.name} depends on {dependency.service}; accepted: {', '.join(sorted(known))}"
            for dependency in service.dependencies
            if dependency.service not in known
        ]
    if problems:
        raise RenderError("\n".join(problems))


def _namespace(name: str) -> Manifest:
    """A namespace that lets no pod in which the restricted pod security standard refuses."""
    mode = "pod-security.kubernetes.io"
    levels = {f"{mode}/{each}": "restricted" for each in ("enforce", "audit", "warn")}
    return manifest("v1", "Namespace", name, labels={**levels, f"{mode}/enforce-version": "latest"})
