"""The outside world of the local stack: its network, volumes, images and containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_docker as docker

from infra import local, paths
from infra.images import BuildSettings, ImageSource, local_image, local_tag
from infra.world import acme, login, nameserver, registry, resolver, traces, vendors

# Reads the mounted files whoever prepared them, and binds ports below 1024 on engines that don't grant that.
_CAPABILITIES = ("CAP_DAC_READ_SEARCH", "CAP_NET_BIND_SERVICE")
_DROPS_ROOT = (*_CAPABILITIES, "CAP_SETGID", "CAP_SETUID")


def _accepts(port: int) -> tuple[str, ...]:
    return ("CMD", "timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")


def _resolves(name: str) -> tuple[str, ...]:
    return ("CMD", "kdig", "@127.0.0.1", "+time=2", "+retry=0", name, "SOA")


@dataclass(frozen=True)
class Container:
    """One container of the outside world, as data.

    `files` are configuration (path to text), `storage` is a directory kept in a volume, `scratch` one that
    every start finds empty, `health` a command.
    """

    party: local.Party
    image: ImageSource
    files: Mapping[str, str]
    health: tuple[str, ...]
    command: tuple[str, ...] = ()
    storage: str | None = None
    scratch: str | None = None
    secrets: bool = True
    resolves: bool = True
    capabilities: Sequence[str] = field(default=_CAPABILITIES)


def containers() -> tuple[Container, ...]:
    """Every container of the outside world."""
    return (
        Container(
            local.NAMESERVER,
            ImageSource("nameserver", "images/nameserver"),
            nameserver.files(),
            _resolves(local.ZONE),
            storage=nameserver.STORAGE_PATH,
            scratch=nameserver.RUN_PATH,
            resolves=False,
            capabilities=_DROPS_ROOT,
        ),
        Container(
            local.RESOLVER,
            ImageSource("resolver", "images/resolver"),
            resolver.files(),
            _resolves("localhost"),
            secrets=False,
            resolves=False,
            capabilities=_DROPS_ROOT,
        ),
        Container(
            local.ACME,
            ImageSource("acme", "images/acme", tools=("step-ca",)),
            acme.files(),
            _accepts(local.ACME.port),
            command=tuple(acme.command()),
            storage=acme.STORAGE_PATH,
        ),
        Container(
            local.LOGIN,
            ImageSource("login", "reference/identity", "images/login/Dockerfile", fetches=True),
            login.files(),
            _accepts(local.LOGIN.port),
            storage=login.STORAGE_PATH,
        ),
        Container(
            local.REGISTRY,
            ImageSource("registry", "images/registry"),
            registry.files(),
            _accepts(local.REGISTRY.port),
            storage=registry.STORAGE_PATH,
        ),
        Container(
            local.VENDORS,
            ImageSource("vendors", "reference/vendors", "images/vendors/Dockerfile"),
            vendors.files(),
            _accepts(local.VENDORS.port),
            storage=vendors.STORAGE_PATH,
        ),
        Container(
            local.TRACES,
            ImageSource("traces", "images/traces", tools=("otelcol",)),
            traces.files(),
            _accepts(local.TRACES.port),
            storage=traces.STORAGE_PATH,
        ),
    )


class OutsideWorld(pulumi.ComponentResource):
    """The outside world; who depends on it finds every part of it accepting requests.

    `network` is the internet network, which machines join.
    """

    network: docker.Network

    def __init__(self, name: str, build: BuildSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("icupa:world:OutsideWorld", name, None, opts)
        self._environment = pulumi.get_stack()
        self._build = build
        self._labels = {"dev.icupa.stack": self._environment}
        self.network = docker.Network(
            "internet",
            name=local.NETWORK,
            ipam_configs=[docker.NetworkIpamConfigArgs(subnet=str(local.SUBNET))],
            labels=[docker.NetworkLabelArgs(label=key, value=value) for key, value in self._labels.items()],
            opts=pulumi.ResourceOptions(parent=self),
        )
        for container in containers():
            self._container(container)
        self.register_outputs({})

    def _container(self, container: Container) -> None:
        party = container.party
        image = local_image(container.image, self._build, pulumi.ResourceOptions(parent=self))
        docker.Container(
            party.name,
            name=party.container,
            hostname=party.label,
            image=local_tag(container.image.name),
            command=list(container.command) or None,
            networks_advanced=[
                docker.ContainerNetworksAdvancedArgs(name=self.network.name, ipv4_address=str(party.address))
            ],
            dns=[str(local.RESOLVER.address)] if container.resolves else None,
            restart="unless-stopped",
            capabilities=docker.ContainerCapabilitiesArgs(adds=sorted(container.capabilities), drops=["ALL"]),
            security_opts=["no-new-privileges"],
            volumes=self._volumes(container),
            tmpfs={container.scratch: "mode=1777"} if container.scratch else None,
            uploads=[
                docker.ContainerUploadArgs(file=path, content=text) for path, text in container.files.items()
            ],
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=list(container.health), interval="5s", timeout="4s", start_period="30s", retries=3
            ),
            wait=True,
            wait_timeout=90,
            labels=[
                *(docker.ContainerLabelArgs(label=key, value=value) for key, value in self._labels.items()),
                docker.ContainerLabelArgs(label="dev.icupa.image", value=image.digest),
            ],
            # Its name and its address can't belong to two containers.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )

    def _volumes(self, container: Container) -> list[docker.ContainerVolumeArgs]:
        party = container.party
        volumes = []
        if container.secrets:
            mounted = str(paths.mounted_files(self._environment, party.name))
            volumes.append(
                docker.ContainerVolumeArgs(
                    host_path=mounted, container_path=local.SECRETS_PATH, read_only=True
                )
            )
        if container.storage is not None:
            volume = docker.Volume(
                party.name,
                name=party.container,
                labels=[
                    docker.VolumeLabelArgs(label=key, value=value) for key, value in self._labels.items()
                ],
                opts=pulumi.ResourceOptions(parent=self),
            )
            volumes.append(
                docker.ContainerVolumeArgs(volume_name=volume.name, container_path=container.storage)
            )
        return volumes
