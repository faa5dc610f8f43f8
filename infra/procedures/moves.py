"""How a host gets from one release to another: always the same five steps, whatever the direction (DEP-1).

The same steps start the service anew without losing a request: at the same release, in a slot that is named.

Pure. A step changes the record; the roles of the site play then make the host what the record says. So a run
that was killed goes on from the record, and undoing is moving again, towards the last good release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from infra.procedures.operation import ProcedureError
from infra.record import HostState, Slot, State
from infra.release.model import short


class Step(StrEnum):
    """One step of a host's move."""

    START = "start"
    """The release runs in the slot that does not serve."""
    CHECK = "check"
    """The application's own tests pass there, and it stays up. A bad release ends here: no user met it."""
    SWITCH = "switch"
    """The proxy sends requests to it; the other slot ends those that it has."""
    SMOKE = "smoke"
    """The region is tested from outside."""
    STOP = "stop"
    """The other slot is stopped and its container removed; the image stays."""


@dataclass(frozen=True)
class Move:
    """What is left to do on a host. `slot` will serve `digest`; `serving` is what serves now."""

    host: str
    digest: str
    slot: Slot
    serving: str
    steps: tuple[Step, ...]

    @property
    def line(self) -> str:
        """For people."""
        if not self.steps:
            return f"{self.host}: {short(self.digest)} serves in {self.slot} already, nothing to do"
        steps = ", ".join(self.steps)
        if self.serving == self.digest and Step.START in self.steps:
            return f"{self.host}: {short(self.digest)} anew in {self.slot}: {steps}"
        if self.serving == self.digest:
            return f"{self.host}: {short(self.digest)} serves in {self.slot} already; {steps}"
        return f"{self.host}: {short(self.serving)} -> {short(self.digest)} in {self.slot}: {steps}"


def move(name: str, host: HostState, digest: str, *, undo: bool = False, slot: Slot | None = None) -> Move:
    """What is left to do until a host serves a digest, in `slot` if one is named, and runs nothing else.

    With `undo` it is what served before: it is not tested in its slot again.
    """
    if not _serves(host, digest, slot):
        tested = () if undo else (Step.CHECK,)
        steps: tuple[Step, ...] = (Step.START, *tested, Step.SWITCH, Step.SMOKE, Step.STOP)
        return Move(name, digest, host.active_slot.other, host.digest, steps)
    if len(host.running) > 1:
        # Switched and not finished; or, in an undo, never switched: then nobody was sent anywhere else.
        steps = (Step.STOP,) if undo else (Step.SWITCH, Step.SMOKE, Step.STOP)
        return Move(name, digest, host.active_slot, host.digest, steps)
    return Move(name, digest, host.active_slot, host.digest, ())


def _serves(host: HostState, digest: str, slot: Slot | None) -> bool:
    return host.digest == digest and slot in (None, host.active_slot)


def moves(state: State, digest: str, hosts: Iterable[str], *, undo: bool = False) -> tuple[Move, ...]:
    """Moves of several hosts, in their order."""
    return tuple(move(name, state.host(name), digest, undo=undo) for name in hosts)


def restarts(state: State, slots: Mapping[str, Slot], *, undo: bool = False) -> tuple[Move, ...]:
    """Moves of hosts to a slot of each, at the release that they serve.

    A host that serves in its slot has its other one stopped all the same: the run that said so may have been
    killed before the host followed, and nothing but that host could tell.
    """
    found = [
        move(name, state.host(name), state.host(name).digest, undo=undo, slot=slot)
        for name, slot in slots.items()
    ]
    return tuple(each if each.steps else replace(each, steps=(Step.STOP,)) for each in found)


def advance(state: State, host: str, step: Step, digest: str, slot: Slot | None = None) -> State:
    """The record after a step of a host's move; the same state where the step was taken already.

    Raises:
        ProcedureError: the step before was not taken.
    """
    found = state.host(host)
    idle = found.active_slot.other
    serves = _serves(found, digest, slot)
    if slot is found.active_slot and not serves:
        raise ProcedureError(f"{host} serves {short(found.digest)} in {slot}, where {short(digest)} must be")
    match step:
        case Step.START if not serves:
            return state.with_slot(host, idle, digest).with_running(host, *Slot)
        case Step.SWITCH if not serves:
            if found.slots[idle] != digest or idle not in found.running:
                raise ProcedureError(
                    f"{host} does not run {short(digest)} yet: there is nothing to switch to"
                )
            return state.with_active_slot(host, idle)
        case Step.STOP:
            if not serves:
                there = f"{short(digest)}{f' in {slot}' if slot else ''}"
                raise ProcedureError(
                    f"{host} serves {short(found.digest)} in {found.active_slot}, not {there}:"
                    " nothing may be stopped"
                )
            return state.with_running(host, found.active_slot)
        case _:
            return state


def foreseen(state: State, host: str, step: Step, digest: str, slot: Slot | None = None) -> State:
    """The record after a step and all those before it, as a dry run foretells it."""
    for each in Step:
        state = advance(state, host, each, digest, slot)
        if each is step:
            break
    return state


def unfinished(state: State, hosts: Iterable[str]) -> Mapping[str, str]:
    """Hosts that do not serve the last good release and nothing else, and what they do instead."""
    found = {}
    for name in hosts:
        host = state.host(name)
        if host.digest != state.release.digest:
            found[name] = f"serves {short(host.digest)}"
        elif len(host.running) > 1:
            other = host.slots[host.active_slot.other]
            found[name] = f"still runs {short(other or '')} beside it"
    return found
