"""Machines of `local`: containers with systemd, reached by SSH as any other machine is."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker
import pulumi_docker_build as docker_build

from infra import local, paths
from infra.config.model import DockerHosts, DockerMachine
from infra.config.trust import mounted_text
from infra.hosts.model import Host
from infra.images import BuildSettings, ImageSource, local_image, local_tag

_IMAGE = ImageSource("machine", "images/machine")
IDENTITY_PATH = "/etc/icupa/machine"
OPERATOR = "operator"
_HOST_KEY = "ssh_host_ed25519_key.pub"
_MIB_A_GB = 1024
_SSH_PORT = 22


@dataclass(frozen=True)
class DockerHostsArgs:
    """`build` says how the machines' image is made; a new image replaces the machines.

    Machines start after `world`, their image is built beside it.
    """

    environment: str
    hosts: DockerHosts
    build: BuildSettings
    world: pulumi.Resource | None = None


class DockerMachines(pulumi.ComponentResource):
    """One systemd machine a host, each on the internet network and on one of its own."""

    hosts: tuple[Host, ...]

    def __init__(self, name: str, args: DockerHostsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        places = {machine.name: machine for machine in local.MACHINES}
        super().__init__("icupa:hosts:DockerMachines", name, None, opts)
        image = local_image(_IMAGE, args.build, pulumi.ResourceOptions(parent=self))
        self.hosts = tuple(
            self._machine(machine, places[machine.name], args, image) for machine in args.hosts.machines
        )
        self.register_outputs({})

    def _machine(
        self,
        machine: DockerMachine,
        place: local.Machine,
        args: DockerHostsArgs,
        image: docker_build.Image,
    ) -> Host:
        child = pulumi.ResourceOptions(parent=self)
        labels = {"dev.icupa.stack": args.environment}
        network = docker.Network(
            machine.name,
            name=place.container,
            ipam_configs=[docker.NetworkIpamConfigArgs(subnet=str(place.subnet))],
            labels=[docker.NetworkLabelArgs(label=label, value=value) for label, value in labels.items()],
            opts=child,
        )
        volume = docker.Volume(
            f"{machine.name}-docker",
            name=f"{place.container}-docker",
            labels=[docker.VolumeLabelArgs(label=label, value=value) for label, value in labels.items()],
            opts=child,
        )
        identity = paths.mounted_files(args.environment, machine.name)
        docker.Container(
            machine.name,
            name=place.container,
            hostname=machine.name,
            image=local_tag(_IMAGE.name),
            capabilities=docker.ContainerCapabilitiesArgs(
                adds=["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]
            ),
            security_opts=["seccomp=unconfined", "apparmor=unconfined"],
            cgroupns_mode="private",
            cpus=f"{machine.cpus}.0",
            memory=machine.memory_gb * _MIB_A_GB,
            dns=[str(local.RESOLVER.address)],
            restart="unless-stopped",
            stop_signal="SIGRTMIN+3",
            stop_timeout=60,
            networks_advanced=[
                docker.ContainerNetworksAdvancedArgs(name=local.NETWORK, ipv4_address=str(place.address)),
                docker.ContainerNetworksAdvancedArgs(name=network.name),
            ],
            volumes=[
                docker.ContainerVolumeArgs(volume_name=volume.name, container_path="/var/lib/docker"),
                docker.ContainerVolumeArgs(
                    host_path=str(identity), container_path=IDENTITY_PATH, read_only=True
                ),
            ],
            labels=[
                *(docker.ContainerLabelArgs(label=label, value=value) for label, value in labels.items()),
                docker.ContainerLabelArgs(label="dev.icupa.image", value=image.digest),
            ],
            # Its name and its addresses can't belong to two containers.
            opts=pulumi.ResourceOptions(
                parent=self,
                delete_before_replace=True,
                depends_on=[args.world] if args.world else None,
            ),
        )
        return Host(
            name=machine.name,
            region=machine.region,
            role=machine.role,
            address=str(place.address),
            user=args.hosts.user,
            port=_SSH_PORT,
            host_key=mounted_text(args.environment, machine.name, _HOST_KEY, pulumi.runtime.is_dry_run()),
            private_key_file=str(paths.mounted_files(args.environment, OPERATOR) / "id_ed25519"),
        )
