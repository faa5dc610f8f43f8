"""The steps of a rotation: record, issuers and store, one after the other (SEC-2).

The record says each phase before what it names is done, and every step can be taken again: a run that was
killed anywhere goes on. Values are in this process's memory only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.record import Lease, Record, Rotation, RotationPhase, Slot, State
from infra.record.model import now
from infra.rotation.issuers import Checker, Issuer, IssuerError, IssuerRefusedError, OnHostsError
from infra.rotation.plan import RotationError
from infra.secretstore import SopsStore, Staged

REFUSED_WITHIN = 5.0
"""Seconds after its revocation within which an old value must be refused (SEC-2)."""
_POLL = 0.25

Readback = Callable[[Mapping[str, str]], list[str]]
"""Names of secrets of which a fresh process reads another value."""


@dataclass(frozen=True)
class Steps:
    """One operation's steps over what the record's journal has.

    `lease` is looked at anew before every change; `say` shows progress.
    """

    record: Record
    store: SopsStore
    lease: Callable[[], Lease]
    issuer: Callable[[str], Issuer]
    checker: Callable[[str], Checker]
    readback: Readback
    by: str
    why: str = ""
    say: Callable[[str], None] = lambda _: None

    @property
    def journal(self) -> Mapping[str, Rotation]:
        """Rotations that are under way."""
        return self.record.state().rotations

    def old_ids(self, names: Iterable[str]) -> dict[str, str | None]:
        """Issuers' names of the values in use; asks issuers, changes nothing.

        Raises:
            IssuerError: an issuer does not answer as it must.
            RotationError: it does not know the value, so it could not be revoked.
        """
        found: dict[str, str | None] = {}
        unknown = []
        entries = self.store.entries()
        for name in names:
            found[name] = entries[name].issued or self.issuer(name).current(self.store.get(name))
            if found[name] is None:
                unknown.append(name)
        if unknown:
            raise RotationError(
                f"the issuer does not know the value in use of {', '.join(unknown)}, so that it could not be"
                " revoked: put in one that it knows, made by hand (python -m infra.secretstore set)"
            )
        return found

    def begin(self, old_ids: Mapping[str, str | None], environment: str) -> None:
        """Write into the journal what is going to be replaced."""
        lease = self.lease()
        # Another one each time: what the last rotation made must not be taken for an orphan of this one.
        label = f"icupa-{environment}-{lease.operation_id}-{lease.token}"
        begun = {
            name: Rotation(
                operation=lease.operation_id,
                phase=RotationPhase.CREATING,
                label=label,
                old_id=old,
                started_at=now(),
            )
            for name, old in old_ids.items()
        }
        self._log(lease, RotationPhase.CREATING, lambda state: state.with_rotations(begun), begun)

    def create(self) -> None:
        """Have a new value of each made by its issuer, and staged in the store.

        Raises:
            IssuerError: an issuer did not, and nothing that it may have made is left in use.
        """
        for name, rotation in self._at(RotationPhase.CREATING).items():
            staged = self.store.next(name)
            if staged is None:
                staged = self._created(name, rotation.label)
                _ = self.lease()
                self.store.stage(name, staged, by=self.by)
            self._enter(RotationPhase.STAGED, name, new_id=staged.issued)
            self.say(f"{name}: a new value is made and staged")

    def _created(self, name: str, label: str) -> Staged:
        issuer = self.issuer(name)
        # A run that was killed before it staged what it was given: nobody has that value any more. A label of
        # this very run was never asked for.
        for orphan in [] if label.endswith(f"-{self.lease().token}") else issuer.labelled(label):
            _ = self.lease()
            issuer.revoke(orphan)
            self.say(f"{name}: revoked what a killed run had made and lost")
        _ = self.lease()
        try:
            issued = issuer.create(label)
        except IssuerRefusedError:
            # It says that it made nothing: there is nothing to undo, and maybe nobody who would answer.
            self._leave(name, "refused")
            raise
        return Staged(issued.value, issued.id)

    def offer(self, slots: Mapping[str, Slot]) -> None:
        """From now on hosts are given new values; the service in slots will serve with them in `slots`."""
        found = self._at(RotationPhase.STAGED)
        if found:
            self._enter(RotationPhase.OFFERED, *found, offered=True, slots=dict(slots))

    def verify(self) -> None:
        """See that the issuers, or who else judges them, accept the new values.

        Raises:
            RotationError: one is refused.
        """
        found = self._at(RotationPhase.OFFERED)
        for name in found:
            if not self._accepts(name, self._next(name).value, on_hosts=True):
                raise RotationError(f"the new value of {name} is refused: the old one stays")
        if found:
            self._enter(RotationPhase.VERIFIED, *found)

    def promote(self) -> None:
        """Have the store give the new values to everybody, and a fresh process read them.

        Raises:
            RotationError: it reads something else.
        """
        found = self._at(RotationPhase.VERIFIED)
        if found:
            self._enter(RotationPhase.PROMOTED, *found)
        promoted = self._at(RotationPhase.PROMOTED)
        if not promoted:
            return
        _ = self.lease()
        self.store.promote({name: self._id(name, rotation) for name, rotation in promoted.items()})
        if wrong := self.readback(self.store.get_many(promoted)):
            raise RotationError(f"a fresh process reads another value of {', '.join(wrong)}: none is revoked")

    def retire(self) -> None:
        """Say that the old values are no longer valid: hosts that judge them themselves take them away."""
        found = self._at(RotationPhase.PROMOTED)
        if found:
            self._enter(RotationPhase.REVOKED, *found)

    def revoke(self) -> None:
        """Make the old values invalid, see that they are refused, and forget them.

        Raises:
            RotationError: one is still accepted.
        """
        self.retire()
        for name, rotation in self._at(RotationPhase.REVOKED).items():
            if rotation.old_id is not None:
                _ = self.lease()
                self.issuer(name).revoke(rotation.old_id)
            previous = self.store.previous(name)
            if previous is not None:
                took = self._refused(name, previous.value)
                self.say(f"{name}: the old value is refused, {took:.1f} s after it was revoked")
                _ = self.lease()
                self.store.forget(name)
            self._leave(name, "done")

    def _refused(self, name: str, value: str) -> float:
        """Seconds until an old value was refused."""
        began = time.monotonic()
        while self._accepts(name, value, on_hosts=False):
            if time.monotonic() - began > REFUSED_WITHIN:
                raise RotationError(
                    f"the old value of {name} is still accepted {REFUSED_WITHIN:.0f} s after it was revoked"
                )
            time.sleep(_POLL)
        return time.monotonic() - began

    def _accepts(self, name: str, value: str, *, on_hosts: bool) -> bool:
        """Whether a value is valid; `on_hosts` where only the hosts can say, which were asked before."""
        try:
            return self.checker(name).accepts(value)
        except OnHostsError:
            return on_hosts

    def undo(self) -> bool:
        """Say that consumers go back to the old values, where the store still gives these to everybody.

        Whether there is anything to undo.
        """
        journal = self.journal
        if any(rotation.phase is RotationPhase.REVOKED for rotation in journal.values()):
            return False
        promoted = [
            name
            for name, rotation in journal.items()
            if rotation.phase is RotationPhase.PROMOTED and self.store.next(name) is None
        ]
        going = [name for name, rotation in journal.items() if rotation.phase is not RotationPhase.UNDOING]
        if promoted or not journal:
            return False
        if going:
            self._enter(RotationPhase.UNDOING, *going)
        return True

    def withdraw(self) -> None:
        """Make invalid and forget the new values that consumers were taken back from.

        Raises:
            IssuerError: an issuer did not answer; the others' are gone.
        """
        problems: list[IssuerError] = []
        for name, rotation in self._at(RotationPhase.UNDOING).items():
            try:
                issuer = self.issuer(name)
                staged = self.store.next(name)
                known = [rotation.new_id, staged.issued if staged else None]
                for each in dict.fromkeys([*filter(None, known), *issuer.labelled(rotation.label)]):
                    _ = self.lease()
                    issuer.revoke(each)
            except IssuerError as error:
                problems.append(error)
                continue
            _ = self.lease()
            self.store.unstage(name)
            self._leave(name, "undone")
        if problems:
            raise problems[0]

    def _at(self, phase: RotationPhase) -> dict[str, Rotation]:
        return {name: found for name, found in self.journal.items() if found.phase is phase}

    def _next(self, name: str) -> Staged:
        staged = self.store.next(name)
        if staged is None:
            raise RotationError(f"the store has no staged value of {name} any more: somebody else removed it")
        return staged

    def _id(self, name: str, rotation: Rotation) -> str:
        if rotation.new_id is None:
            raise RotationError(f"the record does not know which value of {name} was staged")
        return rotation.new_id

    def _enter(self, phase: RotationPhase, *names: str, **fields: Any) -> None:
        def entered(state: State) -> State:
            found = {name: state.rotations[name].changed(phase=phase, **fields) for name in names}
            return state.with_rotations(found)

        self._log(self.lease(), phase, entered, entered(self.record.state()).rotations, names)

    def _leave(self, name: str, how: str) -> None:
        rotation = self.journal[name]
        self._log(self.lease(), how, lambda state: state.with_rotations({name: None}), {name: rotation})

    def _log(
        self,
        lease: Lease,
        what: str,
        change: Callable[[State], State],
        rotations: Mapping[str, Rotation],
        names: Iterable[str] | None = None,
    ) -> None:
        told = {
            name: {"old": rotations[name].old_id, "new": rotations[name].new_id}
            for name in names or rotations
        }
        lease.update(f"rotate.{what}", change, why=self.why, details={"secrets": told})
