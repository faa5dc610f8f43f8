"""The component: what it registers, and that its parts exist."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

from infra import local, paths
from infra.images import BuildSettings
from infra.secretstore.mounts import MOUNTS
from infra.world.outside import OutsideWorld, containers
from tests.unit.mocked import run_program

CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
VOLUME = "docker:index/volume:Volume"
IMAGE = "docker-build:index:Image"


@dataclass
class Registered(Mocks):
    """Inputs of resources by type token, then by name."""

    resources: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.resources.setdefault(args.typ, {})[args.name] = dict(args.inputs)
        return args.name, {"digest": f"sha256:{args.name}", **args.inputs}

    def call(self, args: MockCallArgs) -> Any:
        raise AssertionError(f"{args.token}: the program looks nothing up")


@pytest.fixture
def resources() -> dict[str, dict[str, dict[str, Any]]]:
    registered = Registered()
    run_program(registered, lambda: OutsideWorld("world", BuildSettings()).urn, stack="local", preview=False)
    return registered.resources


def test_one_container_a_party_at_its_address(resources: dict[str, dict[str, dict[str, Any]]]) -> None:
    made = resources[CONTAINER]
    assert set(made) == {party.name for party in local.PARTIES}
    for party in local.PARTIES:
        inputs = made[party.name]
        assert inputs["name"] == party.container
        assert inputs["networksAdvanced"] == [{"name": local.NETWORK, "ipv4Address": str(party.address)}]
    (network,) = resources[NETWORK].values()
    assert network["ipamConfigs"] == [{"subnet": str(local.SUBNET)}]


def test_addresses_are_in_the_network_and_belong_to_one_each() -> None:
    addresses = [place.address for place in (*local.PARTIES, *local.MACHINES)]
    assert len(set(addresses)) == len(addresses)
    assert all(address in local.SUBNET for address in addresses)


def test_who_depends_on_the_world_finds_it_healthy_and_it_comes_back_by_itself(
    resources: dict[str, dict[str, dict[str, Any]]],
) -> None:
    for inputs in resources[CONTAINER].values():
        assert inputs["wait"] is True
        assert inputs["healthcheck"]["tests"][0] == "CMD"
        assert inputs["restart"] == "unless-stopped"


def test_a_new_image_replaces_its_container(resources: dict[str, dict[str, dict[str, Any]]]) -> None:
    for name, inputs in resources[CONTAINER].items():
        labels = {label["label"]: label["value"] for label in inputs["labels"]}
        assert labels == {"dev.icupa.stack": "local", "dev.icupa.image": f"sha256:{name}"}
        assert inputs["image"] in resources[IMAGE][name]["tags"]


def test_data_is_in_volumes_and_secrets_are_mounted_read_only(
    resources: dict[str, dict[str, dict[str, Any]]],
) -> None:
    for container in containers():
        mounted = {
            item["containerPath"]: item
            for item in resources[CONTAINER][container.party.name].get("volumes", [])
        }
        if container.storage:
            assert mounted[container.storage]["volumeName"] == container.party.container
            assert container.party.name in resources[VOLUME]
        secrets = mounted.get(local.SECRETS_PATH)
        assert (secrets is not None) == container.secrets
        if secrets:
            assert secrets["readOnly"] is True
            assert secrets["hostPath"] == str(paths.mounted_files("local", container.party.name))


def test_whatever_is_mounted_is_prepared_and_nobody_else_gets_files() -> None:
    prepared = {mount.consumer for mount in MOUNTS}
    for container in containers():
        assert (container.party.name in prepared) == container.secrets


def test_no_more_rights_than_needed(resources: dict[str, dict[str, dict[str, Any]]]) -> None:
    for inputs in resources[CONTAINER].values():
        assert inputs["capabilities"]["drops"] == ["ALL"]
        assert set(inputs["capabilities"]["adds"]) <= {
            "CAP_DAC_READ_SEARCH",
            "CAP_NET_BIND_SERVICE",
            "CAP_SETGID",
            "CAP_SETUID",
        }
        assert "no-new-privileges" in inputs["securityOpts"]
        assert "privileged" not in inputs


def test_everybody_but_the_name_servers_resolves_at_the_resolver(
    resources: dict[str, dict[str, dict[str, Any]]],
) -> None:
    asking = {name for name, inputs in resources[CONTAINER].items() if "dns" in inputs}
    assert asking == {party.name for party in local.PARTIES} - {"nameserver", "resolver"}


def test_inputs_hold_no_secret(resources: dict[str, dict[str, dict[str, Any]]]) -> None:
    text = json.dumps(resources)
    assert "PRIVATE KEY" not in text
    assert "${secret:" not in text


def test_images_have_their_files_in_the_tree() -> None:
    for container in containers():
        source = container.image
        assert (paths.REPOSITORY / source.dockerfile_path).is_file()
        assert (paths.REPOSITORY / source.context).is_dir()
        dockerfile = (paths.REPOSITORY / source.dockerfile_path).read_text()
        assert all(f"COPY --from={tool} " in dockerfile for tool in source.tools)
        if container.storage:
            assert container.storage in dockerfile
