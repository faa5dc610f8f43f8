"""Check, diff and preview of the docker stand-in, without an engine."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from infra.providers.docker import DockerProvider
from infra.providers.docker_container import Container
from infra.providers.server import Diff, Kind, Properties, ProviderError, Resource
from infra.providers.shapes import resource_shape

CONTAINER = Resource("urn:pulumi:s::p::docker:index/container:Container::web")
NETWORK = Resource("urn:pulumi:s::p::a:b:C$docker:index/network:Network::net")
SEED = bytes(range(32))
FIELDS = resource_shape("pulumi_docker", Container.token).inputs.fields


@pytest.fixture
def provider() -> DockerProvider:
    return DockerProvider()


def container(**inputs: Any) -> Properties:
    return {"name": "web", "image": "a:1", **inputs}


def diff(provider: DockerProvider, old: Properties, new: Properties, **drift: Any) -> Diff:
    state = provider.preview(CONTAINER, {"exitCode": 0}, old) | drift
    return provider.diff(CONTAINER, old, state, new)


def check(provider: DockerProvider, **inputs: Any) -> dict[str, str]:
    _, failures = provider.check(CONTAINER, {}, container(**inputs), SEED)
    return {failure.property: failure.reason for failure in failures}


def test_type_of_a_child_is_read_from_its_urn() -> None:
    assert (NETWORK.type, NETWORK.name) == ("docker:index/network:Network", "net")


def test_a_fixed_name_is_kept(provider: DockerProvider) -> None:
    inputs, failures = provider.check(CONTAINER, {}, container(), SEED)
    assert (inputs["name"], failures) == ("web", [])
    assert "__defaults" not in inputs


def test_a_missing_name_is_made_up_once(provider: DockerProvider) -> None:
    made, _ = provider.check(NETWORK, {}, {}, SEED)
    assert made["name"] == "net-0001020"
    again, _ = provider.check(NETWORK, made, {}, bytes(32))
    assert again["name"] == made["name"]
    replacement, _ = provider.check(NETWORK, {}, {}, bytes(32))
    assert replacement["name"] != made["name"]


@pytest.mark.parametrize(
    ("inputs", "path", "reason"),
    [
        ({"command": ["a", ""]}, "command", "may not be empty"),
        ({"restart": "sometimes"}, "restart", "unless-stopped"),
        ({"cgroupnsMode": "shared"}, "cgroupnsMode", "private"),
        ({"healthcheck": {"tests": ["CMD", "a"], "interval": "5 s"}}, "healthcheck.interval", "5s or 1m30s"),
        ({"uploads": [{"file": "/a"}]}, "uploads[0]", "exactly one of"),
        ({"uploads": [{"file": "/a", "content": "a", "source": "b"}]}, "uploads[0]", "exactly one of"),
        (
            {"uploads": [{"file": "/a", "content": "a", "permissions": "644"}]},
            "uploads[0].permissions",
            "four octal digits",
        ),
        ({"mounts": [{"target": "/a", "type": "nfs"}]}, "mounts[0].type", "bind, volume or tmpfs"),
        ({"gpus": "all"}, "gpus", "install the official one"),
        (
            {"networksAdvanced": [{"name": "n", "gwPriority": 1}]},
            "networksAdvanced[0].gwPriority",
            "official",
        ),
    ],
)
def test_refuses(provider: DockerProvider, inputs: Properties, path: str, reason: str) -> None:
    found = check(provider, **inputs)
    assert list(found) == [path]
    assert reason in found[path]


@pytest.mark.parametrize("name", sorted(set(FIELDS) - Container.unsupported))
def test_any_input_may_be_unknown_yet(provider: DockerProvider, name: str) -> None:
    assert not check(provider, **{name: UNKNOWN})


@pytest.mark.parametrize(
    "name", sorted(name for name, field in FIELDS.items() if field.items is not None and not field.is_map)
)
def test_any_item_may_be_unknown_yet(provider: DockerProvider, name: str) -> None:
    found = check(provider, **{name: [UNKNOWN]})
    assert set(found) <= Container.unsupported


def test_unknown_resources_are_refused_by_name(provider: DockerProvider) -> None:
    service = Resource("urn:pulumi:s::p::docker:index/service:Service::a")
    with pytest.raises(ProviderError, match="docker:index/service:Service is not supported"):
        provider.check(service, {}, {}, SEED)


def test_equal_inputs_are_no_change(provider: DockerProvider) -> None:
    assert not diff(provider, container(wait=True), container(wait=True)).properties


def test_defaults_written_out_are_no_change(provider: DockerProvider) -> None:
    assert not diff(provider, container(), container(restart="no", mustRun=True, init=False)).properties


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"envs": ["A=1", "B=2"]}, {"envs": ["B=2", "A=1"]}),
        (
            {"labels": [{"label": "a", "value": "1"}, {"label": "b", "value": "2"}]},
            {"labels": [{"label": "b", "value": "2"}, {"label": "a", "value": "1"}]},
        ),
        ({"capabilities": {"adds": ["A", "B"]}}, {"capabilities": {"adds": ["B", "A"], "drops": []}}),
        ({"envs": []}, {}),
    ],
)
def test_order_of_sets_and_emptiness_are_no_change(
    provider: DockerProvider, old: Properties, new: Properties
) -> None:
    assert not diff(provider, container(**old), container(**new)).properties


def test_order_of_a_command_is_a_change(provider: DockerProvider) -> None:
    found = diff(provider, container(command=["a", "b"]), container(command=["b", "a"]))
    assert found.properties == {"command": Kind.UPDATE_REPLACE}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {"memory": 64}, {"memory": Kind.ADD}),
        ({"memory": 64}, {"memory": 128}, {"memory": Kind.UPDATE}),
        ({"restart": "always"}, {}, {"restart": Kind.UPDATE}),
        ({}, {"envs": ["A=1"]}, {"envs": Kind.ADD_REPLACE}),
        ({"envs": ["A=1"]}, {}, {"envs": Kind.DELETE_REPLACE}),
        ({"envs": ["A=1"]}, {"envs": ["A=2"]}, {"envs": Kind.UPDATE_REPLACE}),
        ({}, {"healthcheck": {"tests": ["CMD", "a"]}}, {"healthcheck": Kind.ADD_REPLACE}),
    ],
)
def test_what_replaces_and_what_does_not(
    provider: DockerProvider, old: Properties, new: Properties, expected: dict[str, Kind]
) -> None:
    assert diff(provider, container(**old), container(**new)).properties == expected


def test_an_unknown_value_is_a_change(provider: DockerProvider) -> None:
    old, new = [{"label": "digest", "value": "a"}], [{"label": "digest", "value": UNKNOWN}]
    found = diff(provider, container(labels=old), container(labels=new))
    assert found.properties == {"labels": Kind.UPDATE_REPLACE}


def test_what_a_refresh_found_is_a_change(provider: DockerProvider) -> None:
    assert diff(provider, container(), container(), mustRun=False).properties == {"mustRun": Kind.UPDATE}


def test_a_fixed_name_is_deleted_before_it_is_made_again(provider: DockerProvider) -> None:
    assert diff(provider, container(), container(envs=["A=1"])).delete_before_replace
    named = {"name": "web-0001020", "image": "a:1", "__defaults": ["name"]}
    assert not diff(provider, named, {**named, "envs": ["A=1"]}).delete_before_replace


def test_a_preview_does_not_know_what_the_engine_decides(
    provider: DockerProvider,
) -> None:
    state = provider.preview(CONTAINER, {}, container(hostname="h"))
    assert (state["image"], state["hostname"], state["restart"]) == ("a:1", "h", "no")
    assert state["networkDatas"] == state["exitCode"] == state["shmSize"] == UNKNOWN
    assert "memory" not in state
    network = provider.preview(NETWORK, {}, {"name": "n"})
    assert network["scope"] == network["driver"] == UNKNOWN


def test_a_preview_of_an_update_keeps_what_the_engine_decided(provider: DockerProvider) -> None:
    assert provider.preview(CONTAINER, {"exitCode": 0}, container(memory=1))["exitCode"] == 0


def test_a_preview_of_a_start_does_not_know_the_addresses(provider: DockerProvider) -> None:
    stopped = {"networkDatas": [{"ipAddress": ""}], "mustRun": False}
    assert provider.preview(CONTAINER, stopped, container())["networkDatas"] == UNKNOWN


def test_options_of_the_provider_that_would_be_ignored_are_refused(provider: DockerProvider) -> None:
    failures = provider.check_config({"host": "tcp://a", "certPath": "/c"})
    assert [failure.property for failure in failures] == ["certPath"]


def test_the_tables_name_real_properties() -> None:
    known = set(resource_shape("pulumi_docker", Container.token).inputs.fields)
    for table in (Container.defaults, Container.updatable, Container.unordered, Container.observed):
        assert set(table) <= known
    assert Container.unsupported <= known


def test_requests_are_values() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONTAINER.urn = ""  # type: ignore[misc]
