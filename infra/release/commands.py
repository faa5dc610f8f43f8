"""The application's own commands, run from the release's image on a host (DEP-1, DEP-5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from infra.config.model import Commands
from infra.outputs.model import StackOutputs
from infra.release.model import UNKNOWN, Checked, ReleaseError
from infra.secretstore import SecretStoreError
from infra.services import names
from infra.services.agents import image_variable, slot_name
from infra.services.model import Slot
from infra.smoke.checks import CheckFailedError, Smoke
from infra.smoke.client import UnknownNameError
from infra.smoke.target import TargetError, find_target

LONGEST_LINE = 200


class Name(StrEnum):
    """A command: a key of `icupa:commands`."""

    SMOKE = "smoke"
    MIGRATE = "migrate"
    MIGRATION_PLAN = "migration_plan"
    CHECK_SCHEMA = "check_schema"
    SYNC_VECTOR_STORES = "sync_vector_stores"
    FLAGS_LIST = "flags_list"
    FLAGS_SET = "flags_set"
    FLAGS_DISABLE = "flags_disable"


READ_ONLY = frozenset({Name.MIGRATION_PLAN, Name.CHECK_SCHEMA, Name.FLAGS_LIST})
"""Commands that a dry run runs too; smoke is none, it makes and voids a voucher."""
_INSIDE = frozenset({Name.SMOKE})
"""Commands that run in the container of the slot where it has the release: it has just been started, and a
container more would cost the requests what it takes to make. Others must not depend on which slot runs.
"""
_ALONE = {Name.FLAGS_SET: "flags", Name.FLAGS_DISABLE: "flags"}
"""Commands of which one at a time runs, whichever: turning a flag off ends what is still turning one on."""
OWNERS = frozenset({Name.MIGRATE, Name.MIGRATION_PLAN})
"""Commands that need the schema's owner: they get the definition of the migration, not of the service."""


@dataclass(frozen=True)
class OneOff:
    """One run of a command; `service` is that of the Compose project whose definition it gets.

    `inside`: in the service's own container where one runs with the image. `variables` override those of the
    project for this run; `environment` and `secrets` are the command's own.
    """

    container: str
    service: str
    profile: str
    image: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    read_only: bool
    inside: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def module(self, root: str, docker_config: str | None, timeout: float, fence: int = 0) -> dict[str, Any]:
        """Arguments of the module `release_command`."""
        return {
            "root": root,
            "docker_config": docker_config,
            "timeout": timeout,
            "fence": fence,
            "container": self.container,
            "service": self.service,
            "profile": self.profile,
            "image": self.image,
            "command": list(self.command),
            "variables": dict(self.variables),
            "environment": dict(self.environment),
            "secrets": dict(self.secrets),
            "read_only": self.read_only,
            "inside": self.inside,
        }


def one_off(
    name: Name,
    commands: Commands,
    slot: Slot,
    reference: str,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> OneOff:
    """How a command is run with an image, given as `image@digest`, on a host."""
    service = f"{names.MIGRATE}-{slot}" if name in OWNERS else slot_name(slot)
    return OneOff(
        container=f"icupa-{_ALONE.get(name, name.value).replace('_', '-')}",
        service=service,
        profile=str(slot),
        image=reference,
        command=(*getattr(commands, name), *arguments),
        variables={image_variable(slot): reference},
        read_only=name in READ_ONLY,
        inside=name in _INSIDE,
        environment=environment or {},
        secrets=secrets or {},
    )


def smoke_environment(slot: Slot, checked: Checked, switches: Mapping[str, str]) -> dict[str, str]:
    """What the smoke suite is told to test: one slot, inside the host, as the release that it must be.

    `switches` as texts: those of a container are as old as it is.
    """
    expected = {} if checked.git_sha == UNKNOWN else {"SMOKE_EXPECT_GIT_SHA": checked.git_sha}
    return {"AGENTS_URL": f"http://{slot_name(slot)}:{names.AGENTS_PORT}", **expected, **switches}


def smoke_token(outputs: StackOutputs, stack: str) -> str:
    """A bearer token for the smoke suite. Raises ReleaseError."""
    try:
        return Smoke(find_target(outputs, stack, outputs.hosts[0].region)).token()
    except (TargetError, CheckFailedError, UnknownNameError, SecretStoreError, httpx.HTTPError) as error:
        raise ReleaseError(f"no token for the smoke suite: {error}") from error
    except (KeyError, TypeError, ValueError):
        raise ReleaseError(
            "no token for the smoke suite: the login server answers with something else"
        ) from None


def summary(stdout: str, stderr: str, lines: int = 12) -> list[str]:
    """The last lines that a command printed, for people; errors last."""
    said = [*stdout.strip().splitlines(), *stderr.strip().splitlines()]
    return [line[:LONGEST_LINE] for line in said[-lines:]]
