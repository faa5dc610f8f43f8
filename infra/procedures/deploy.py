"""Deploying a release: what it changes where, and how it ended (DEP-1). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.procedures.moves import Move, moves, unfinished
from infra.procedures.operation import Failure, ProcedureError
from infra.record import Release, Result, Slot, State
from infra.record.model import now
from infra.release.model import Checked, short
from infra.services import agents, names


@dataclass(frozen=True)
class Plan:
    """What is to be done: one move a host, in the order of the hosts."""

    digest: str
    moves: tuple[Move, ...]

    @property
    def nothing_to_do(self) -> bool:
        """Whether every host serves the release and nothing else."""
        return not any(move.steps for move in self.moves)

    @property
    def lines(self) -> list[str]:
        """For people."""
        return [move.line for move in self.moves]

    def steps(self) -> dict[str, list[str]]:
        """Steps by host, as tasks need them."""
        return {move.host: [step.value for step in move.steps] for move in self.moves}


@dataclass(frozen=True)
class Verdict:
    """How an operation ended. `next`: what the operator does now, where the result alone does not say it."""

    result: Result
    message: str
    next: str = ""


def plan(state: State, digest: str, hosts: Sequence[str]) -> Plan:
    """Moves towards a release.

    Raises:
        ProcedureError: a host is not in the record: the site play puts it there.
    """
    _known(state, hosts)
    return Plan(digest, moves(state, digest, hosts))


def undo_plan(state: State, hosts: Sequence[str]) -> Plan:
    """Moves back to the last good release of the record."""
    _known(state, hosts)
    return Plan(state.release.digest, moves(state, state.release.digest, hosts, undo=True))


def not_ready(reasons: Sequence[str], serving: Slot, *, accept_unhealthy: bool) -> list[str]:
    """Why a host must not be moved, of what `release_look` says is not as stack and record want it.

    The slot that does not serve may be anything: it is replaced. All else must be as wanted, because moving
    makes the whole host what stack and record say: a container that is out of date would be made anew while
    it serves. `accept_unhealthy` lets a release that is ill be replaced.
    """
    idle = tuple(f"{service}-{serving.other} " for service in (names.AGENTS, names.MIGRATE))
    # Compose runs it again when it brings up the other slot: a run that was killed just now has left it so.
    migrating = f"{names.MIGRATE}-{serving} has not ended well (running"
    ill = f"{agents.slot_name(serving)} is "
    return [
        reason
        for reason in reasons
        if not reason.startswith((*idle, migrating)) and not (accept_unhealthy and reason.startswith(ill))
    ]


def deployed(state: State, checked: Checked, by: str) -> State:
    """The record once every host serves the release: it is the last good one now.

    Raises:
        ProcedureError: a host does not.
    """
    require_alone(state, checked.digest)
    if state.release.digest == checked.digest:
        return state
    return state.with_release(release_of(checked, by))


def require_alone(state: State, digest: str) -> None:
    """Refuse to call a release the environment's while a host serves or runs another.

    Raises:
        ProcedureError: names those hosts.
    """
    behind = [name for name, host in state.hosts.items() if host.digests != {digest}]
    if behind:
        raise ProcedureError(f"{short(digest)} does not serve alone on {', '.join(behind)}")


def release_of(checked: Checked, by: str) -> Release:
    """The release as the record keeps it."""
    return Release(
        image=checked.image, digest=checked.digest, git_sha=checked.git_sha, deployed_at=now(), by=by
    )


def verdict(
    state: State,
    failure: Failure,
    *,
    moved: bool,
    not_undone: Mapping[str, str],
    lost: Sequence[str] = (),
) -> Verdict:
    """How an operation that failed ended.

    `moved`: it had changed a host when it failed. `not_undone`: host to why it did not go back. `lost`: hosts
    that did not answer any more: nobody knows what they do.
    """
    said = f"{failure.step}: {failure.message}"
    good = short(state.release.digest)
    left = dict(unfinished(state, state.hosts))
    if lost:
        return Verdict(
            Result.UNCERTAIN,
            f"lost {', '.join(sorted(lost))}; {said}",
            "see that the host is up, then run the site play: it makes it what the record says."
            " Then run the same command again",
        )
    if not_undone or left:
        why = "; ".join(
            f"{host} {left.get(host, 'is not what the record says')}"
            f"{f': {not_undone[host]}' if host in not_undone else ''}"
            for host in sorted({*left, *not_undone})
        )
        return Verdict(Result.ROLLBACK_FAILED, f"not undone: {why}. It failed at {said}")
    if not moved:
        return Verdict(Result.FAILED, f"{said}; no host was changed, {good} serves")
    return Verdict(Result.ROLLED_BACK, f"{said}; {good} serves everywhere")


def _known(state: State, hosts: Sequence[str]) -> None:
    unknown = [name for name in hosts if name not in state.hosts]
    if unknown:
        raise ProcedureError(
            f"the record does not know {', '.join(unknown)}: run the site play, which makes it a host"
        )
