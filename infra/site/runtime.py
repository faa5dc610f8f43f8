"""What the record says about one host, in the shape that roles get as `icupa_runtime`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from infra.site.outputs import StackOutputs

Slot = Literal["blue", "green"]
FIRST_SLOT: Slot = "blue"


class RuntimeStateError(Exception):
    """The record can't be read, or does not know a host; the message says what to do."""


class HostRuntime(BaseModel):
    """Slot that serves on a host, image of each slot (by digest), switches as texts of an env file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    active_slot: Slot
    images: dict[Slot, str]
    switches: dict[str, str]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> HostRuntime:
        """Check what came through Ansible's variables."""
        return cls.model_validate(dict(raw))


def first_runtime(outputs: StackOutputs) -> HostRuntime:
    """What bootstrap writes for every host: the release that the program built, on blue."""
    image = f"{outputs.release.image}@{outputs.release.digest}"
    return HostRuntime(
        active_slot=FIRST_SLOT,
        images={"blue": image, "green": image},
        switches=outputs.settings["switches"],
    )


def read_runtimes(outputs: StackOutputs) -> dict[str, HostRuntime]:
    """Runtime state of every host."""
    return {host.name: first_runtime(outputs) for host in outputs.hosts}
