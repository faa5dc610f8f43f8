"""Inputs of the images that the program builds."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_docker_build as docker_build
import pytest

from infra import images
from infra.images import BuildSettings, ImageSource

DIGEST = "sha256:" + "a" * 64


class Mocks(pulumi.runtime.Mocks):
    """Records inputs and gives every image the same digest."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.inputs = args.inputs
        return f"{args.name}-id", {**args.inputs, "digest": DIGEST}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)


@pytest.fixture
async def mocks() -> Mocks:
    # Asynchronous, so that Pulumi's root resource belongs to the loop of the test.
    made = Mocks()
    pulumi.runtime.set_mocks(made)
    return made


SOURCE = ImageSource("edge", "images/edge", tools=("traefik",), build_args={"X": "1"})


async def digest(image: docker_build.Image) -> Any:
    return await image.digest.future()


async def test_a_local_image_is_loaded(mocks: Mocks) -> None:
    settings = BuildSettings(builder="icupa", base_layout="/cache/base")
    assert await digest(images.local_image(SOURCE, settings)) == DIGEST
    assert (mocks.inputs["load"], mocks.inputs["push"]) == (True, False)
    assert mocks.inputs["tags"] == ["icupa-local/edge:latest"]
    assert mocks.inputs["context"] == {
        "location": "images/edge",
        "named": {
            "traefik": {"location": "build/tools/traefik"},
            "debian:trixie-slim": {"location": "oci-layout:///cache/base:latest"},
        },
    }
    assert mocks.inputs["buildArgs"] == {"BASE": "debian:trixie-slim", "SOURCE_DATE_EPOCH": "0", "X": "1"}
    assert mocks.inputs["builder"] == {"name": "icupa"}
    assert (mocks.inputs["network"], mocks.inputs["buildOnPreview"]) == ("host", False)


async def test_a_pushed_image_is_pinned_by_its_digest(mocks: Mocks) -> None:
    image = images.pushed_image(SOURCE, BuildSettings(), "registry.example/icupa/edge", ["1a2b", "latest"])
    reference = await images.pinned("registry.example/icupa/edge", image).future()
    assert reference == f"registry.example/icupa/edge@{DIGEST}"
    assert (mocks.inputs["load"], mocks.inputs["push"]) == (False, True)
    assert mocks.inputs["tags"] == ["registry.example/icupa/edge:1a2b", "registry.example/icupa/edge:latest"]
    assert mocks.inputs["context"]["named"] == {"traefik": {"location": "build/tools/traefik"}}
    assert not {"builder", "registries", "secrets"} & set(mocks.inputs)


def test_an_image_without_tag_is_not_pushed() -> None:
    with pytest.raises(ValueError, match="at least one tag"):
        images.pushed_image(SOURCE, BuildSettings(), "registry.example/icupa/edge", [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Edge", "context": "images/edge"}, "not a name"),
        ({"name": "edge", "context": "/images/edge"}, "must stay in the repository"),
        ({"name": "edge", "context": "images/../../edge"}, "must stay in the repository"),
        ({"name": "edge", "context": "a", "dockerfile": "/etc/Dockerfile"}, "must stay in the repository"),
        ({"name": "edge", "context": "a", "tools": ("../x",)}, "not a name"),
    ],
)
def test_sources_outside_the_repository_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSource(**arguments)
