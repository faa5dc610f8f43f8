"""The stand-in for clouds previews and never creates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pulumi.runtime.rpc import UNKNOWN

from infra.providers.cloud import PreviewProvider
from infra.providers.server import Kind, ProviderError, Resource

DROPLET = Resource("urn:pulumi:s::p::digitalocean:index/droplet:Droplet::primary")
INPUTS = {"image": "debian-13-x64", "size": "s-2vcpu-4gb"}


@pytest.fixture
def provider() -> PreviewProvider:
    return PreviewProvider("digitalocean", "1.2.3")


def test_a_preview_knows_the_inputs_only(provider: PreviewProvider) -> None:
    state = provider.preview(DROPLET, {}, INPUTS)
    assert (state["image"], state["ipv4Address"]) == ("debian-13-x64", UNKNOWN)


def test_unknown_properties_are_refused(provider: PreviewProvider) -> None:
    _, failures = provider.check(DROPLET, {}, {**INPUTS, "sise": "s"}, b"")
    assert [failure.property for failure in failures] == ["sise"]


def test_changes_are_shown(provider: PreviewProvider) -> None:
    news = {**INPUTS, "size": "s-4vcpu-8gb", "vpcUuid": UNKNOWN}
    found = provider.diff(DROPLET, INPUTS, INPUTS, news).properties
    assert found == {"size": Kind.UPDATE, "vpcUuid": Kind.UPDATE}
    assert not provider.diff(DROPLET, INPUTS, INPUTS, INPUTS).properties


@pytest.mark.parametrize(
    "act",
    [
        lambda it: it.create(DROPLET, INPUTS),
        lambda it: it.update(DROPLET, "1", INPUTS, INPUTS),
        lambda it: it.delete(DROPLET, "1", INPUTS),
        lambda it: it.read(DROPLET, "1", {}, {}),
        lambda it: it.invoke("digitalocean:index/getImage:getImage", {}),
    ],
    ids=["create", "update", "delete", "import", "invoke"],
)
def test_it_refuses_to_act_and_says_what_would(
    provider: PreviewProvider, act: Callable[[PreviewProvider], object]
) -> None:
    with pytest.raises(ProviderError, match=r"pulumi plugin install resource digitalocean 1\.2\.3"):
        act(provider)


def test_a_refresh_keeps_what_is_known(provider: PreviewProvider) -> None:
    current = provider.read(DROPLET, "1", INPUTS, {**INPUTS, "ipv4Address": "192.0.2.1"})
    assert current is not None
    assert current.state["ipv4Address"] == "192.0.2.1"
