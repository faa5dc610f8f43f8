"""Whether a release may run on a database's schema, and which others its migrations leave behind (DEP-4)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.record import State
from infra.release.model import SCHEMA_LABEL, Checked, HostImage, ReleaseError, short
from infra.release.retention import previous_kept


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Migration(_Model):
    """One pending migration; `ends` are the revisions whose code the schema serves no more after it."""

    revision: str
    kind: Literal["expand", "contract"]
    ends: tuple[str, ...] = ()


class Plan(_Model):
    """What the release's own command says of a host's database: see `Commands.migration_plan`."""

    needs: str
    at: str | None
    serves: tuple[str, ...]
    pending: tuple[Migration, ...]
    problem: str = ""

    @property
    def line(self) -> str:
        """For people."""
        if not self.pending:
            return f"the schema serves revision {self.needs} already"
        steps = ", ".join(f"{step.revision} ({step.kind})" for step in self.pending)
        return f"migrations to run: {steps}"


def parse_plan(output: str) -> Plan:
    """Plan in the last line of a command's output. Raises ReleaseError."""
    lines = output.strip().splitlines()
    try:
        return Plan.model_validate(json.loads(lines[-1] if lines else ""))
    except (ValueError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "no JSON"
        raise ReleaseError(
            f"the release's migration plan can't be read ({reason}):"
            f" {lines[-1][:200] if lines else 'it printed nothing'}"
        ) from None


def served(checked: Checked, serving: str, images: Iterable[HostImage]) -> Plan | None:
    """Plan of a release that needs the revision of what serves on the host, and is ready there; else None.

    A service is ready only on a schema that serves its revision, and a release leaves such a schema alone.
    `images` are those of the host. None, too, where an image does not say what it needs.
    """
    needs = checked.schema_revision
    said = {image.labels.get(SCHEMA_LABEL) for image in images if image.digest == serving}
    return Plan(needs=needs, at=None, serves=(needs,), pending=()) if needs and said == {needs} else None


@dataclass(frozen=True)
class Standing:
    """A release that may run again; `revision` is None where nobody can tell what it needs.

    One that is only `kept` may be given up by name; one that runs, or that a failed deploy goes back to, not.
    """

    digest: str
    revision: str | None
    why: str
    kept: bool = False


def standing(state: State, on_hosts: Mapping[str, Sequence[HostImage]]) -> list[Standing]:
    """Releases that run anywhere, the last good one, and those that are kept for rollback; each once."""
    needs = {image.digest: image.labels.get(SCHEMA_LABEL) for images in on_hosts.values() for image in images}
    found: dict[str, Standing] = {}
    for name, host in state.hosts.items():
        for slot in host.running:
            digest = host.slots[slot]
            if digest is not None:
                found.setdefault(digest, Standing(digest, needs.get(digest), f"runs on {name}"))
    last = state.release.digest
    found.setdefault(last, Standing(last, needs.get(last), "is the last good release"))
    for digest in previous_kept(state):
        found.setdefault(digest, Standing(digest, needs.get(digest), "is kept for rollback", kept=True))
    return list(found.values())


def problems(
    checked: Checked, plan: Plan, others: Sequence[Standing], allowed: Collection[str] = ()
) -> list[str]:
    """Why a release must not start on a database; empty where it may.

    `allowed` are contract migrations whose loss the operator has accepted: releases that are only kept for
    rollback can't be rolled back to after them.
    """
    found = [plan.problem] if plan.problem else []
    needs = checked.schema_revision or plan.needs
    if needs != plan.needs:
        found.append(
            f"its label {SCHEMA_LABEL} says that it needs schema revision {needs}, its code {plan.needs}"
        )
    reached = (set(plan.serves) | {step.revision for step in plan.pending}) - {
        ended for step in plan.pending for ended in step.ends
    }
    if not found and needs not in reached:
        serves = ", ".join(sorted(plan.serves)) or "none"
        makes = ", ".join(step.revision for step in plan.pending) or "none"
        found.append(
            f"it needs schema revision {needs}; the database serves {serves}, and its migrations make {makes}"
        )
    for step in plan.pending:
        if step.kind == "contract":
            found += _left_behind(step, checked, others, allowed)
    return found


def _left_behind(
    step: Migration, checked: Checked, others: Sequence[Standing], allowed: Collection[str]
) -> list[str]:
    found = []
    for other in others:
        if other.digest == checked.digest or (other.kept and step.revision in allowed):
            continue
        if other.revision is not None and other.revision not in step.ends:
            continue
        does = (
            f"ends schema revision {other.revision}, which {short(other.digest)} needs"
            if other.revision
            else f"is a contract, and nobody can tell what {short(other.digest)} needs"
        )
        instead = (
            f"say -e allow_contract={step.revision} if it is meant that it can't be rolled back to any more"
            if other.kept
            else "first deploy a release that does without it"
        )
        found.append(f"migration {step.revision} {does}; that release {other.why}: {instead}")
    return found
