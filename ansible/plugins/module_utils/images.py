"""Images of a repository that a host's engine has."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any


class ImagesError(Exception):
    """The engine refused; the message says what."""


def run(*arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command."""
    return subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )


def docker(*arguments: str) -> str:
    """Output of Docker's command line; ImagesError with its message."""
    done = run("docker", *arguments)
    if done.returncode != 0:
        raise ImagesError(f"docker {' '.join(arguments[:2])}: {done.stderr.strip()}")
    return done.stdout


def inspected(*arguments: str) -> list[dict[str, Any]]:
    """What `docker … inspect` says of those that are still there."""
    found: list[dict[str, Any]] = json.loads(run("docker", *arguments).stdout or "[]")
    return found


def all_containers() -> list[dict[str, Any]]:
    """What the engine says of every container, also ended ones."""
    ids = docker("ps", "--all", "--quiet", "--no-trunc").split()
    return inspected("container", "inspect", *ids) if ids else []


def listed(repository: str, known: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Images of the repository by digest, their names in it, and the containers made of them.

    `known` is what `all_containers` returned, where it was asked already.
    """
    ids = sorted(set(docker("image", "ls", "--quiet", "--no-trunc").split()))
    if not ids:
        return []
    containers: dict[str, list[str]] = {}
    for item in all_containers() if known is None else known:
        containers.setdefault(item["Image"], []).append(item["Name"].lstrip("/"))
    images = []
    for item in inspected("image", "inspect", *ids):
        names = [name for name in item.get("RepoDigests") or [] if name.startswith(f"{repository}@")]
        tags = [name for name in item.get("RepoTags") or [] if name.rpartition(":")[0] == repository]
        for name in names or tags[:1]:
            images.append(
                {
                    "digest": name.partition("@")[2],
                    "id": item["Id"],
                    "names": [*names, *tags],
                    "labels": (item.get("Config") or {}).get("Labels") or {},
                    "containers": sorted(containers.get(item["Id"], [])),
                    "bytes": item.get("Size", 0),
                }
            )
    return sorted(images, key=lambda image: (image["digest"], image["id"]))
