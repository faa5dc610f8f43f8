"""Builds the images of the roles' machines with the engine's builder: `python -m tests.molecule.images`."""

from __future__ import annotations

import json
import os

import docker

from infra import paths
from infra.toolchain import base
from infra.toolchain.progress import Progress

NAMESPACE = "icupa-molecule"
TARGETS = ("bare", "machine")
BASE_VARIABLE = "ICUPA_MOLECULE_BASE"


def base_image(client: docker.DockerClient) -> str:
    """Reference of the base image: the variable's, else the project's own, put into the engine."""
    named = os.environ.get(BASE_VARIABLE)
    if named:
        return named
    layout = base.ensure(Progress())
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs" / "sha256"

    def blob(digest: str) -> str:
        return digest.removeprefix("sha256:")

    manifest = json.loads((blobs / blob(index["manifests"][0]["digest"])).read_text())
    layer = blob(manifest["layers"][0]["digest"])
    repository, tag = f"{NAMESPACE}/base", layer[:16]
    if not client.images.list(f"{repository}:{tag}"):
        client.api.import_image_from_file(str(blobs / layer), repository=repository, tag=tag)
    return f"{repository}:{tag}"


def build(*targets: str) -> list[str]:
    """Build the targets named, or all; what is cached is not built again. Return their references."""
    client = docker.from_env(timeout=900)
    reference = base_image(client)
    built: list[str] = []
    for target in targets or TARGETS:
        name = f"{NAMESPACE}/{target}:latest"
        client.images.build(
            path=str(paths.REPOSITORY / "images" / "machine"),
            target=target,
            buildargs={"BASE": reference},
            network_mode="host",
            tag=name,
            rm=True,
        )
        built.append(name)
    return built


if __name__ == "__main__":
    print("\n".join(build()))
