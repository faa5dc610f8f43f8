"""Rolling back: to which release, and which flags the bad one had turned on (DEP-2). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from infra.procedures import rollout
from infra.procedures.deploy import release_of, require_alone
from infra.procedures.moves import unfinished
from infra.procedures.operation import ProcedureError
from infra.record import Event, Result, State
from infra.release.model import Checked, short

TARGET = "rollback.target"
"""Action of the event that says where a rollback goes; its details are a `Target`'s."""
_BEGINS = ("deploy.start", "deploy.release")
"""Actions of events after which users may meet a release: flags of earlier ones are not its own."""
FLAG_EVENTS = (rollout.ACTION,)
"""Actions of events whose details say {flag, group, enabled}."""


_UNFINISHED = (Result.UNCERTAIN, Result.ROLLBACK_FAILED)


@dataclass(frozen=True)
class Target:
    """Where to go: a digest, or what the operator asked for; `why` in one sentence."""

    release: str
    bad: str
    why: str


def target(state: State, asked: str | None) -> Target:
    """What to roll back to, and from what.

    A host that is in the middle of a deploy runs what never was good: then the last good release is the one
    that is still in force. Otherwise it is the one before.

    Raises:
        ProcedureError: the record knows no earlier release.
    """
    serving = {host.digest for host in state.hosts.values()} | {
        digest for host in state.hosts.values() for digest in host.digests
    }
    odd = sorted(serving - {state.release.digest})
    bad = odd[0] if odd else state.release.digest
    if asked:
        return Target(asked, bad, f"{asked} was asked for")
    if unfinished(state, state.hosts):
        return Target(
            state.release.digest,
            bad,
            f"{short(bad)} never was good; {short(state.release.digest)} is the last good release",
        )
    if not state.previous_releases:
        raise ProcedureError(
            f"the record knows no release before {short(state.release.digest)}: name one, -e release=<digest>"
        )
    former = state.previous_releases[0]
    return Target(former.digest, bad, f"{short(former.digest)} is the last good release before {short(bad)}")


def resumed(events: Iterable[Event], operation_id: str) -> Target | None:
    """Where the same command was going when it did not come to its end; None where it came to one.

    Without it, what a killed rollback has reached would look like the release to leave; and one that could
    not undo itself would, run again as it says, go on to the bad release. `events` are oldest first.
    """
    found: Target | None = None
    for event in events:
        own = event.operation_id == operation_id
        if own and event.action == TARGET:
            found = Target(*(str(event.details.get(name, "")) for name in ("release", "bad", "why")))
        elif own:
            ended = event.action == "rollback.end" and event.result not in _UNFINISHED
            found = None if ended else found
        elif event.action in {"deploy.release", "rollback.release"}:
            found = None
    return found


def flags_turned_on(events: Iterable[Event], bad: str) -> list[str]:
    """Flags that were turned on since the bad release was deployed and are on for some group still.

    `events` oldest first.
    """
    on: dict[str, set[str]] = {}
    for event in events:
        if event.digest == bad and event.action in _BEGINS:
            on = {}
        flag, group = event.details.get("flag"), str(event.details.get("group", ""))
        if event.action not in FLAG_EVENTS or not isinstance(flag, str):
            continue
        groups = on.setdefault(flag, set())
        if event.details.get("enabled"):
            groups.add(group)
        elif group == rollout.EVERYBODY:
            groups.clear()
        else:
            groups.discard(group)
    return [flag for flag, groups in on.items() if groups]


def rolled_back(state: State, checked: Checked, by: str) -> State:
    """The record once every host serves the release again: the bad one is no aim of a later rollback.

    Raises:
        ProcedureError: a host does not.
    """
    require_alone(state, checked.digest)
    if state.release.digest == checked.digest:
        return state
    return state.with_release_undone(release_of(checked, by))
