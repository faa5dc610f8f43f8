"""What the record says about each host, in the shape that roles get as `icupa_runtime`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra.outputs.model import HostOutput, StackOutputs
from infra.record import (
    HostState,
    NotBootstrappedError,
    RecordError,
    Release,
    Slot,
    State,
    Switch,
    open_record,
)
from infra.record.model import now

BOOTSTRAPPER = "bootstrap"


class RuntimeStateError(Exception):
    """The record can't be read, or outputs make no first state; the message says why."""


class HostRuntime(BaseModel):
    """Slot that serves on a host, image of each slot by digest, switches as texts of an env file.

    `maintenance`: whether users get the maintenance answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    active_slot: Slot
    running: tuple[Slot, ...]
    fallback: Slot | None = None
    images: dict[Slot, str]
    switches: dict[str, str]
    maintenance: bool = False

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> HostRuntime:
        """Check what came through Ansible's variables."""
        return cls.model_validate(dict(raw))


def first_release(outputs: StackOutputs) -> Release:
    """The image that the program built, as the first release."""
    release = outputs.release
    return Release(
        image=release.image,
        digest=release.digest,
        git_sha=release.git_sha,
        deployed_at=now(),
        by=BOOTSTRAPPER,
    )


def first_switches(outputs: StackOutputs) -> dict[str, bool]:
    """Switches as the stack file sets them."""
    return outputs.settings.switches.model_dump()


def first_active(outputs: StackOutputs) -> HostOutput:
    """Host that gets the traffic first."""
    return next(host for host in outputs.hosts if host.role == "primary")


def first_state(outputs: StackOutputs) -> State:
    """What bootstrap writes where there is no record; raises RuntimeStateError."""
    active = first_active(outputs)
    try:
        release = first_release(outputs)
        return State(
            release=release,
            hosts={host.name: HostState.first(release) for host in outputs.hosts},
            switches={Switch(name): value for name, value in first_switches(outputs).items()},
            active_region=active.region,
            active_host=active.name,
        )
    except (ValueError, KeyError) as error:
        raise RuntimeStateError(f"outputs make no first state of the record: {error}") from error


def read_runtimes(outputs: StackOutputs) -> dict[str, HostRuntime]:
    """Runtime state of every host: from the record, or what bootstrap is about to write into it."""
    try:
        state = open_record(outputs.record).state()
    except NotBootstrappedError:
        state = first_state(outputs)
    except RecordError as error:
        raise RuntimeStateError(f"the record of {outputs.environment} can't be read: {error}") from error
    absent = {
        host.name: HostState.first(state.release) for host in outputs.hosts if host.name not in state.hosts
    }
    known = state.changed(hosts={**state.hosts, **absent})
    return {host.name: HostRuntime.parse(known.runtime(host.name)) for host in outputs.hosts}
