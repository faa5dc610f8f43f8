"""Inputs are checked against what the SDK's classes say."""

from __future__ import annotations

import pytest
from pulumi.runtime.rpc import UNKNOWN

from infra.providers.server import ProviderError
from infra.providers.shapes import ResourceShape, resource_shape

CONTAINER = "docker:index/container:Container"


@pytest.fixture(scope="module")
def container() -> ResourceShape:
    return resource_shape("pulumi_docker", CONTAINER)


def problems(shape: ResourceShape, **inputs: object) -> dict[str, str]:
    return {failure.property: failure.reason for failure in shape.check(inputs)}


def test_accepts_what_the_sdk_knows(container: ResourceShape) -> None:
    assert not problems(
        container,
        image="a",
        envs=["A=1"],
        tmpfs={"/run": ""},
        memory=64,
        wait=True,
        networksAdvanced=[{"name": "n", "ipv4Address": "10.0.0.2", "aliases": ["a"]}],
        mounts=[{"target": "/a", "type": "tmpfs", "tmpfsOptions": {"sizeBytes": 1}}],
    )


def test_names_an_unknown_property_and_the_nearest_known_one(container: ResourceShape) -> None:
    found = problems(container, image="a", privilege=True, mounts=[{"target": "/a", "typ": "bind"}])
    assert "did you mean 'privileged'" in found["privilege"]
    assert "did you mean 'type'" in found["mounts[0].typ"]
    assert found["mounts[0].type"] == "missing required property"


def test_lists_known_properties_where_none_is_near() -> None:
    found = problems(resource_shape("pulumi_docker", "docker:index/tag:Tag"), zzzzzz=1)
    assert "known: sourceImage, tagTriggers, targetImage" in found["zzzzzz"]


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("envs", "A=1", "envs", "expected a list, got a string"),
        ("envs", ["A=1", 2], "envs[1]", "expected a string, got a whole number"),
        ("memory", True, "memory", "expected a whole number, got a boolean"),
        ("memory", 1.5, "memory", "expected a whole number, got a number"),
        ("tmpfs", {"/run": 1}, "tmpfs./run", "expected a string, got a whole number"),
        ("tmpfs", ["/run"], "tmpfs", "expected a map, got a list"),
        ("healthcheck", "true", "healthcheck", "expected an object, got a string"),
    ],
)
def test_refuses_another_type(
    container: ResourceShape, name: str, value: object, path: str, expected: str
) -> None:
    assert problems(container, image="a", **{name: value}) == {path: expected}


def test_requires_what_the_sdk_requires(container: ResourceShape) -> None:
    assert problems(container, name="a") == {"image": "missing required property"}


def test_unknown_values_pass_anywhere(container: ResourceShape) -> None:
    assert not problems(container, image=UNKNOWN, envs=UNKNOWN, mounts=[UNKNOWN], wait=UNKNOWN)


def test_outputs_are_all_properties_of_the_resource(container: ResourceShape) -> None:
    assert {"networkDatas", "exitCode", "image", "containerLogs"} <= container.outputs
    assert not {"id", "urn"} & container.outputs


def test_a_resource_that_the_sdk_lacks_is_refused() -> None:
    with pytest.raises(ProviderError, match="no such resource"):
        resource_shape("pulumi_docker", "docker:index/pod:Pod")


@pytest.mark.parametrize(
    ("package", "token"),
    [
        ("digitalocean", "digitalocean:index/droplet:Droplet"),
        ("digitalocean", "digitalocean:index/firewall:Firewall"),
        ("digitalocean", "digitalocean:index/reservedIp:ReservedIp"),
        ("cloudflare", "cloudflare:index/dnsRecord:DnsRecord"),
    ],
)
def test_every_property_of_a_cloud_has_a_shape(package: str, token: str) -> None:
    shape = resource_shape(f"pulumi_{package}", token)
    assert shape.inputs.fields
    for field in shape.inputs.fields.values():
        assert field.scalar or field.items or field.fields
