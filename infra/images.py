"""Images that the program builds: those of the outside world and those that are deployed, the same way.

Credentials of a registry come from the Docker client configuration (DOCKER_CONFIG), never from inputs, so
that state holds none. Paths of contexts are relative to the repository's root, where Pulumi runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pulumi
import pulumi_docker_build as docker_build

from infra import paths
from infra.toolchain import base

LOCAL_NAMESPACE = "icupa-local"
PUBLIC_BASE = base.PUBLIC

_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
# The image's own time stamps. Those of files stay: to rewrite them costs seconds an image in every export,
# and the builder's cache gives the same layers, so the same digest, anyway.
_EPOCH = "0"


@dataclass(frozen=True)
class ImageSource:
    """What an image is made of.

    `context` is relative to the repository; `dockerfile` too, `<context>/Dockerfile` if not given. Each of
    `tools` is a directory below `build/tools`, and a named context for the Dockerfile (`COPY --from=<tool>`).
    `fetches`: its build asks a package registry over TLS, and has a stage `trust` to know its certificate.
    """

    name: str
    context: str
    dockerfile: str | None = None
    tools: tuple[str, ...] = ()
    build_args: dict[str, str] = field(default_factory=dict)
    fetches: bool = False

    def __post_init__(self) -> None:
        """Refuse names and paths that a build would misread.

        Raises:
            ValueError: for a name that is no repository name, or a path that leaves the repository.
        """
        for name in (self.name, *self.tools):
            if not _NAME.fullmatch(name):
                raise ValueError(f"image {self.name!r}: {name!r} is not a name; accepted: {_NAME.pattern}")
        for path in (self.context, self.dockerfile_path):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise ValueError(f"image {self.name!r}: {path!r} must stay in the repository, without '..'")

    @property
    def dockerfile_path(self) -> str:
        """Path of the Dockerfile, relative to the repository."""
        return self.dockerfile or f"{self.context}/Dockerfile"


@dataclass(frozen=True)
class BuildSettings:
    """How images are built on this machine.

    `builder` is a Buildx builder (None: the default one). Every Dockerfile begins with `ARG BASE` and
    `FROM ${BASE}`; `base_layout`, an absolute OCI layout directory, stands in for `base`
    where no public image can be pulled. `machine_trust` gives builds that fetch packages the certificate
    authorities of this machine; they differ between machines, so that shared stacks do without.
    """

    builder: str | None = None
    base: str = PUBLIC_BASE
    base_layout: str | None = None
    machine_trust: bool = False


def local_tag(name: str) -> str:
    """Tag under which `local_image` loads an image into the engine."""
    return f"{LOCAL_NAMESPACE}/{name}:latest"


def local_image(
    source: ImageSource, settings: BuildSettings, opts: pulumi.ResourceOptions | None = None
) -> docker_build.Image:
    """Build `source` and load it into the engine as `local_tag(source.name)`; `digest` follows content."""
    return _image(source, settings, [local_tag(source.name)], opts, push=False)


def pushed_image(
    source: ImageSource,
    settings: BuildSettings,
    registry_repository: str,
    tags: Sequence[pulumi.Input[str]],
    opts: pulumi.ResourceOptions | None = None,
) -> docker_build.Image:
    """Build `source` and push it as `<registry_repository>:<tag>` for each tag (IMG-1).

    What is downstream pins `digest`, see `pinned`; a tag is for people.

    Raises:
        ValueError: if there is no tag.
    """
    if not tags:
        raise ValueError(f"image {source.name!r}: at least one tag is needed to push it")
    names = [pulumi.Output.concat(registry_repository, ":", tag) for tag in tags]
    return _image(source, settings, names, opts, push=True)


def pinned(registry_repository: str, image: docker_build.Image) -> pulumi.Output[str]:
    """Return the reference `<registry_repository>@sha256:…` of a pushed image."""
    return pulumi.Output.concat(registry_repository, "@", image.digest)


def _image(
    source: ImageSource,
    settings: BuildSettings,
    tags: Sequence[pulumi.Input[str]],
    opts: pulumi.ResourceOptions | None,
    *,
    push: bool,
) -> docker_build.Image:
    tools = paths.image_tools().relative_to(paths.REPOSITORY)
    contexts = (
        (*source.tools, paths.image_trust().name)
        if source.fetches and settings.machine_trust
        else source.tools
    )
    named = {name: docker_build.ContextArgs(location=str(tools / name)) for name in contexts}
    if settings.base_layout is not None:
        named[settings.base] = docker_build.ContextArgs(
            location=f"oci-layout://{settings.base_layout}:latest"
        )
    return docker_build.Image(
        source.name,
        push=push,
        load=not push,
        tags=list(tags),
        context=docker_build.BuildContextArgs(location=source.context, named=named),
        dockerfile=docker_build.DockerfileArgs(location=source.dockerfile_path),
        build_args={"BASE": settings.base, "SOURCE_DATE_EPOCH": _EPOCH, **source.build_args},
        builder=None if settings.builder is None else docker_build.BuilderConfigArgs(name=settings.builder),
        network=docker_build.NetworkMode.HOST,
        build_on_preview=False,
        opts=opts,
    )
