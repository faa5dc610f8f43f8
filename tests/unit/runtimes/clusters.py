"""Clusters of a stack as tests render them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from infra.config.load import load_file
from infra.config.model import Kubernetes, Role, Stack, Switches
from infra.runtimes.kubernetes import ClusterState, Manifest, cluster_context, render
from infra.secrets.catalogue import CATALOGUE
from infra.services.context import Context

STACKS = ("local", "staging", "production")
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
DIGEST = f"sha256:{'1' * 64}"
IMAGES = ("traefik", "oauth2-proxy", "otel-collector", "postgres", "redis", "prometheus", "maintenance")
SELF_HOSTED = {"driver": "self-hosted"}
MANAGED = {
    "driver": "managed",
    "database": {"host": "postgres.example.com", "port": 25060, "name": "a", "user": "b", "owner": "c"},
    "redis": {"host": "redis.example.com", "port": 25061},
}
NGINX = {"driver": "nginx"}


def state(**changes: Any) -> ClusterState:
    fields: dict[str, Any] = {
        "release": f"ghcr.io/icupa/agents-service@{DIGEST}",
        "images": {name: f"ghcr.io/icupa/{name}@sha256:{'2' * 64}" for name in IMAGES},
        "switches": dict.fromkeys(Switches.model_fields, True),
        "secrets": dict.fromkeys(CATALOGUE, "1"),
    }
    return ClusterState(**{**fields, **changes})


@cache
def _loaded(name: str) -> Stack:
    return load_file(name)


def stack_of(name: str, **changes: Any) -> Stack:
    """A stack, with some settings of its clusters changed."""
    stack = _loaded(name)
    assert stack.kubernetes is not None
    settings = Kubernetes.model_validate({**stack.kubernetes.model_dump(mode="json"), **changes})
    return stack.model_copy(update={"kubernetes": settings})


def context_of(name: str, role: Role = Role.PRIMARY, **changes: Any) -> Context:
    stack = stack_of(name, **changes)
    assert stack.kubernetes is not None
    cluster = next(cluster for cluster in stack.kubernetes.clusters if cluster.role is role)
    return cluster_context(name, stack, cluster, (CERTIFICATE,) if stack.trust else ())


def objects_of(
    name: str, role: Role = Role.PRIMARY, given: ClusterState | None = None, **changes: Any
) -> list[Manifest]:
    return render(context_of(name, role, **changes), given or state())


def find(objects: list[Manifest], kind: str, name: str, namespace: str | None = None) -> Manifest:
    """The one object of that kind whose name is `name`, but for the hash of its content."""
    (found,) = (
        item
        for item in objects
        if item["kind"] == kind
        and re.fullmatch(rf"{name}(-[0-9a-f]{{10}})?", item["metadata"]["name"])
        and namespace in {None, item["metadata"].get("namespace")}
    )
    return found


def pod_specs(objects: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Specification of the pods of each service, by its name."""
    return {
        item["metadata"]["labels"]["app.kubernetes.io/name"]: item["spec"]["template"]["spec"]
        for item in objects
        if item["kind"] in {"Deployment", "StatefulSet", "Job"}
    }
