"""The manifest of each cluster of an environment, as a file (K8S-5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.config.model import Cluster, Role
from infra.paths import REPOSITORY
from infra.runtimes.kubernetes import Manifest
from infra.runtimes.kubernetes.text import as_yaml

DIRECTORY = REPOSITORY / "deployments"
_PULL_SECRET = "kubernetes.io/dockerconfigjson"  # noqa: S105 - a type


def path(environment: str, cluster: Cluster, directory: Path = DIRECTORY) -> Path:
    """File of a cluster: the primary's has the name of the sources, the standby's its region as well."""
    region = "" if cluster.role is Role.PRIMARY else f"-{cluster.region}"
    return directory / environment / f"agents-service{region}.yaml"


def text(environment: str, cluster: Cluster, manifests: Sequence[Manifest]) -> str:
    """Content of that file: references to secrets, no values."""
    return (
        f"# {environment}, {cluster.region}: rendered by `make render STACK={environment}`, not edited.\n"
        "# Values of secrets are not in it. With them, by whoever can decrypt:\n"
        f"#   python -m infra.render --stack {environment} --resolve {cluster.region}"
        f" | kubectl --context {cluster.context} apply --server-side -f -\n"
    ) + as_yaml(manifests)


def resolved(manifests: Sequence[Manifest], resolve: Callable[[str], str]) -> list[Manifest]:
    """The same objects with values of secrets: for the standard output of a command, for nothing else."""

    def value(kind: str, content: str) -> str:
        if kind != _PULL_SECRET:
            return resolve(content)
        # A value may hold what must be escaped in JSON.
        logins = json.loads(content)["auths"]
        known = {
            host: {name: resolve(item) for name, item in login.items()} for host, login in logins.items()
        }
        return json.dumps({"auths": known})

    return [
        {**item, "stringData": {key: value(item["type"], part) for key, part in item["stringData"].items()}}
        if item["kind"] == "Secret"
        else item
        for item in manifests
    ]


def secret_texts(manifests: Sequence[Manifest]) -> list[str]:
    """Every text that holds references."""
    return [part for item in manifests if item["kind"] == "Secret" for part in item["stringData"].values()]
