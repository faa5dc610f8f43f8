"""What manifests are rendered with besides the configuration: digests, switches, versions of secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from infra.outputs.model import StackOutputs
from infra.record import NotBootstrappedError, RecordError, open_record
from infra.runtimes.kubernetes import ClusterState
from infra.secretstore import SecretStoreError, open_store
from infra.site.runtime import RuntimeStateError, first_state

Pinned = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@sha256:[0-9a-f]{64}$")]


class StateError(Exception):
    """What procedures change can't be read; the message says why."""


class _StateFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    release: Pinned
    images: dict[str, Pinned]
    switches: dict[str, bool]
    secrets: dict[str, str]
    maintenance: bool = False


def read_state(file: Path) -> ClusterState:
    """State from a JSON file with the fields of `ClusterState`; raises StateError."""
    try:
        found = _StateFile.model_validate_json(file.read_bytes())
    except OSError as error:
        raise StateError(f"{file}: {error.strerror}") from error
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        accepted = ", ".join(_StateFile.model_fields)
        raise StateError(f"{file}: not accepted; it is a mapping with {accepted}:\n{problems}") from None
    return ClusterState(**found.model_dump())


def gather_state(outputs: StackOutputs) -> ClusterState:
    """State of a stack that is up: its outputs, its record, its secret store; raises StateError."""
    try:
        state = open_record(outputs.record).state()
    except NotBootstrappedError:
        try:
            state = first_state(outputs)
        except RuntimeStateError as error:
            raise StateError(str(error)) from error
    except RecordError as error:
        raise StateError(f"the record of {outputs.environment} can't be read: {error}") from error
    try:
        entries = open_store(outputs.secretstore, outputs.environment, record=outputs.record).entries()
    except (SecretStoreError, RecordError) as error:
        raise StateError(f"the secret store of {outputs.environment} can't be read: {error}") from error
    return ClusterState(
        release=state.release.reference,
        images=_images(outputs),
        switches={str(switch): value for switch, value in state.switches.items()},
        secrets={name: entry.created_at.isoformat() for name, entry in entries.items()},
        maintenance=state.maintenance.enabled,
    )


def _images(outputs: StackOutputs) -> dict[str, str]:
    """Images that the program built, by name; the release's own are variables of the projects."""
    services = [
        service
        for project in outputs.projects.values()
        for service in project["compose"]["services"].values()
    ]
    references = {str(service["image"]) for service in services}
    return {
        repository.rpartition("/")[2]: reference
        for reference in references
        if "$" not in reference
        for repository in (reference.partition("@")[0],)
    }
