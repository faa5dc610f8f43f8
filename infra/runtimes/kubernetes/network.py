"""Who may talk to whom: nobody, but for those that call each other, and the way out that networks give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.config.model import NginxIngress
from infra.runtimes.kubernetes.model import Cluster, Manifest, labels, manifest
from infra.services import traefik
from infra.services.model import Network, Port, Service
from infra.services.platform import Routing

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
_ANYBODY = "0.0.0.0/0"
_METADATA = "169.254.0.0/16"
"""Link-local addresses: a cloud's metadata with its credentials."""
_LOCAL_DNS = "169.254.20.10/32"
"""Where a node's own DNS cache listens, in clusters that have it."""
_DNS_PORT = 53
_WAYS_OUT = {Network.EDGE, Network.EGRESS}


def policies(cluster: Cluster, namespaces: Sequence[str]) -> list[Manifest]:
    """Default deny and DNS for every namespace, and what each service needs."""
    made = [policy for namespace in namespaces for policy in _namespace_policies(namespace)]
    return made + [_service_policy(service, cluster) for service in cluster.topology.services]


def _policy(name: str, namespace: str, spec: dict[str, Any], service: str = "") -> Manifest:
    own = labels(service) if service else {}
    return manifest("networking.k8s.io/v1", "NetworkPolicy", name, namespace, labels=own, spec=spec)


def _namespace_policies(namespace: str) -> list[Manifest]:
    both = ["Ingress", "Egress"]
    dns = {
        "to": [_namespace("kube-system"), {"ipBlock": {"cidr": _LOCAL_DNS}}],
        "ports": [{"protocol": protocol, "port": _DNS_PORT} for protocol in ("UDP", "TCP")],
    }
    return [
        _policy("default-deny", namespace, {"podSelector": {}, "policyTypes": both}),
        _policy("dns", namespace, {"podSelector": {}, "policyTypes": ["Egress"], "egress": [dns]}),
    ]


def _service_policy(service: Service, cluster: Cluster) -> Manifest:
    namespace = cluster.platform.namespace_of(service.name)
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": labels(service.name)},
        "policyTypes": ["Ingress", "Egress"],
    }
    if ingress := _ingress(service, cluster):
        spec["ingress"] = ingress
    if egress := _egress(service, cluster):
        spec["egress"] = egress
    return _policy(service.name, namespace, spec, service.name)


def _ingress(service: Service, cluster: Cluster) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    if public := [port for port in service.ports if port.public]:
        rules.append({"ports": _ports(public)})
    topology = cluster.topology
    callers = [other for other in topology.services if service in topology.called(other)]
    sources = [_pods(caller, cluster) for caller in callers]
    ingress = cluster.settings.ingress
    if (
        cluster.platform.routing is Routing.FOREIGN
        and isinstance(ingress, NginxIngress)
        and service.name in traefik.ROUTED
    ):
        sources.append(_namespace(ingress.namespace))
    if service.ports and sources:
        rules.append({"from": sources, "ports": _ports(service.ports)})
    return rules


def _egress(service: Service, cluster: Cluster) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = [
        {"to": [_pods(called, cluster)], "ports": _ports(called.ports)}
        for called in cluster.topology.called(service)
    ]
    if _WAYS_OUT & set(service.networks) or service.api_access:
        # Pods are reached by the rules above only, whatever network they are in.
        outside = {"cidr": _ANYBODY, "except": [_METADATA, *cluster.platform.proxies]}
        rules.append({"to": [{"ipBlock": outside}]})
    return rules


def _pods(service: Service, cluster: Cluster) -> dict[str, Any]:
    namespace = cluster.platform.namespace_of(service.name)
    return {**_namespace(namespace), "podSelector": {"matchLabels": labels(service.name)}}


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE_LABEL: name}}}


def _ports(ports: Sequence[Port]) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port.number} for port in ports]
