"""What the objects of a cluster are made from, and what all of them have in common."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.config.model import Kubernetes
from infra.secrets.references import find
from infra.services.model import Service, Topology
from infra.services.platform import Platform

NAMESPACE = "agents-service"
"""Everything but the login."""
LOGIN_NAMESPACE = "auth"
"""The login, and the middlewares: `auth-forward@kubernetescrd` is `forward` in here (K8S-2)."""
PRIORITY_CLASS = "agents-service"
PULL_SECRET = "registry"  # noqa: S105 - a name
SWITCHES = "agents-switches"
"""ConfigMap with the switches: runtime state, which procedures write and the service reads again."""
NAME_LABEL = "app.kubernetes.io/name"
_PART_OF = {"app.kubernetes.io/part-of": "agents-service"}
_HASH_LENGTH = 10
_PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")

Manifest = dict[str, Any]
"""A Kubernetes object as plain JSON."""


class RenderError(ValueError):
    """Definitions can't be rendered; the message lists everything that is wrong."""


@dataclass(frozen=True)
class ClusterState:
    """What is not in the configuration: digests, and what procedures change.

    `release` and every one of `images` are pinned, `<repository>@sha256:<digest>`. `secrets` has a version of
    each secret, any text that changes with its value.
    """

    release: str
    images: Mapping[str, str]
    switches: Mapping[str, bool]
    secrets: Mapping[str, str]
    maintenance: bool = False

    def problems(self) -> list[str]:
        """Images that are not pinned."""
        named = {"release": self.release, **self.images}
        return [
            f"image {name}: found {reference}; accepted: <repository>@sha256:<digest>"
            for name, reference in sorted(named.items())
            if not _PINNED.fullmatch(reference)
        ]


@dataclass(frozen=True)
class Cluster:
    """One cluster of an environment: its services, settings and state."""

    topology: Topology
    platform: Platform
    settings: Kubernetes
    state: ClusterState

    def image(self, service: Service) -> str:
        """Reference of a service's image."""
        return self.state.release if service.slots else self.state.images[service.image]


def labels(name: str) -> dict[str, str]:
    """Labels of an object that belongs to a service."""
    return {NAME_LABEL: name, **_PART_OF}


def manifest(api_version: str, kind: str, name: str, namespace: str = "", **content: Any) -> Manifest:
    """An object; `labels` and `annotations` go into its metadata, the rest beside it."""
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = {**_PART_OF, **content.pop("labels", {})}
    if annotations := content.pop("annotations", None):
        metadata["annotations"] = annotations
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def content_hash(*content: Any) -> str:
    """Short hash of anything that is JSON."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def config_map(name: str, namespace: str, data: Mapping[str, str], service: str) -> Manifest:
    """An immutable ConfigMap, named by its content so that a change rolls the pods that name it."""
    return manifest(
        "v1",
        "ConfigMap",
        f"{name}-{content_hash(data)}",
        namespace,
        labels=labels(service),
        immutable=True,
        data=dict(sorted(data.items())),
    )


def secret(
    name: str,
    namespace: str,
    data: Mapping[str, str],
    versions: Mapping[str, str],
    service: str,
    *,
    kind: str = "Opaque",
) -> Manifest:
    """An immutable Secret with references, named by its content and by the versions of what it refers to.

    Raises RenderError for a secret whose version is not known.
    """
    referred = sorted({found for text in data.values() for found in find(text)})
    if unknown := [found for found in referred if found not in versions]:
        raise RenderError(f"{namespace}/{name}: no version of {', '.join(unknown)}; put values in first")
    return manifest(
        "v1",
        "Secret",
        f"{name}-{content_hash(data, {found: versions[found] for found in referred})}",
        namespace,
        labels=labels(service),
        type=kind,
        immutable=True,
        stringData=dict(sorted(data.items())),
    )
