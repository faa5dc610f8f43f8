"""Images that an environment deploys: built here, pushed to its registry, pinned by digest (IMG-1)."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from infra import paths
from infra.config.model import Registry
from infra.images import BuildSettings, ImageSource, pinned, pushed_image
from infra.registry.attestation import ImageAttestation, ImageAttestationArgs
from infra.services import names
from infra.toolchain.base import layout
from infra.toolchain.environment import BUILDER
from infra.toolchain.errors import ToolchainError

RELEASE_PATH = "reference/agents_service"
SOURCE = "https://github.com/icupa/agents-service"
DEFAULT_BUILDER = "default"
SERVICES = (
    ImageSource(names.TRAEFIK, "images/traefik", tools=("traefik",)),
    ImageSource(names.OAUTH2_PROXY, "images/oauth2-proxy", tools=("oauth2-proxy",)),
    ImageSource(names.OTEL_COLLECTOR, "images/otel-collector", tools=("otelcol",)),
    ImageSource(names.POSTGRES, "images/postgres"),
    ImageSource(names.REDIS, "images/redis"),
    ImageSource(names.PROMETHEUS, "images/prometheus"),
    ImageSource(names.MAINTENANCE, "images/maintenance"),
)


class ReleaseError(Exception):
    """The commit of the service can't be told."""


@dataclass(frozen=True)
class ImagesArgs:
    """`git_sha` is the commit that last touched the service.

    `secretstore` says where the signing key is, `address` where the registry is if its name does not resolve
    here, `trust` holds the certificates that are trusted in place of the public authorities.
    """

    environment: str
    registry: Registry
    build: BuildSettings
    git_sha: str
    secretstore: Mapping[str, Any]
    address: str | None = None
    trust: Sequence[str] = ()


class Images(pulumi.ComponentResource):
    """Every image of the environment's registry; the release's is signed and attested."""

    release: Mapping[str, pulumi.Input[str]]
    """Image, digest and commit of the release that was built here; known once it is signed."""
    references: Mapping[str, pulumi.Output[str]]
    """Image by name, as `registry/repository@sha256:…`; without the release's, which is runtime state."""

    def __init__(self, name: str, args: ImagesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("icupa:registry:Images", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        source = release_source(args.git_sha)
        release_repository = repository(args.registry, source.name)
        release = pushed_image(source, args.build, release_repository, [args.git_sha, "latest"], child)
        attestation = ImageAttestation(
            source.name,
            ImageAttestationArgs(
                reference=pinned(release_repository, release),
                source=SOURCE,
                git_sha=args.git_sha,
                source_digest=release.context_hash,
                base=args.build.base,
                builder=args.build.builder or DEFAULT_BUILDER,
                stack=args.environment,
                secretstore=args.secretstore,
                address=args.address,
                trust=args.trust,
            ),
            child,
        )
        self.release = {
            "image": release_repository,
            "digest": attestation.attested.apply(lambda reference: reference.rpartition("@")[2]),
            "git_sha": args.git_sha,
        }
        self.references = {
            source.name: pinned(target, pushed_image(source, args.build, target, ["latest"], child))
            for source in SERVICES
            for target in (repository(args.registry, source.name),)
        }
        self.register_outputs({})


def release_source(git_sha: str) -> ImageSource:
    """What the service's image is made of."""
    return ImageSource(names.AGENTS_IMAGE, RELEASE_PATH, build_args={"GIT_SHA": git_sha}, fetches=True)


def repository(registry: Registry, image: str) -> str:
    """Repository of an image: `<host>/<namespace>/<image>`."""
    return f"{registry.host}/{registry.namespace}/{image}"


def build_settings(local: bool) -> BuildSettings:
    """How images are built: on `local` by our own builder, from a base image that was made here."""
    if not local:
        return BuildSettings()
    try:
        base = layout()
    except ToolchainError:
        return BuildSettings(builder=BUILDER, machine_trust=True)
    return BuildSettings(builder=BUILDER, base_layout=str(base), machine_trust=True)


def release_commit(path: str = RELEASE_PATH) -> str:
    """Commit, 40 hexadecimal digits, that last touched the service; raises ReleaseError."""
    done = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", path],
        cwd=paths.REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = done.stdout.strip()
    if done.returncode != 0 or not commit:
        raise ReleaseError(
            f"the commit of {path} can't be told ({done.stderr.strip() or 'no commit touches it'}): "
            "run in a git checkout with its history"
        )
    return commit
