"""What a rotation replaces, who has to be given it and how, and how it ended (SEC-1, SEC-2). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from infra.record import Result, Rotation, RotationPhase, Slot
from infra.secrets.catalogue import CATALOGUE, CONTROLLER, SUPABASE_FUNCTIONS
from infra.secretstore import Entry, UnknownSecretError
from infra.secretstore.ages import ages
from infra.secretstore.store import check_name
from infra.services import names

DUE = "due"
ALL = "all"
FUNCTION_SECRETS = {"openai-api-key": "OPENAI_API_KEY"}
"""Name in the functions' secrets, of those that functions read and that anybody may set there."""


class RotationError(Exception):
    """A rotation is not possible, or must not go on; the message says why and what to do, never a value."""


class How(StrEnum):
    """How a service of a host takes a new value."""

    SLOT = "slot"
    """Started in its other slot, by the steps of a deploy: no request is lost."""
    BESIDE = "beside"
    """A second container serves before the first one ends: no request is lost."""
    ANEW = "anew"
    """Made anew; nobody's request goes through it."""


_HOW = {
    names.AGENTS: How.SLOT,
    # A slot migrates before it starts.
    names.MIGRATE: How.SLOT,
    names.OAUTH2_PROXY: How.BESIDE,
    names.PROMETHEUS: How.ANEW,
    names.OTEL_COLLECTOR: How.ANEW,
}


@dataclass(frozen=True)
class Asked:
    """Names that were asked for. `named`: one by one, not by what is so of them."""

    names: tuple[str, ...]
    named: bool


@dataclass(frozen=True)
class Delivery:
    """Services of a host that have to be given new values, as Compose names them, by how they take them."""

    services: Mapping[How, tuple[str, ...]] = field(default_factory=dict)

    @property
    def in_slots(self) -> bool:
        """Whether the service in slots is one of them."""
        return bool(self.services.get(How.SLOT))


def asked(text: str, entries: Mapping[str, Entry], at: datetime) -> Asked:
    """Secrets that `NAME`, `NAME,NAME`, `due` or `all` mean, of those that have a value.

    `due` are those that should have been replaced, `all` those that age is a reason to replace at all.

    Raises:
        RotationError: names all that are unknown, or have no value.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    found = ages(entries, at)
    if words == [DUE]:
        return Asked(tuple(age.name for age in found if age.overdue), named=False)
    if words == [ALL]:
        return Asked(tuple(age.name for age in found if age.due is not None), named=False)
    wrong = [] if words else [f"secret={text!r} names none"]
    for word in words:
        try:
            check_name(word)
        except UnknownSecretError as error:
            wrong.append(str(error))
        else:
            if word not in entries:
                wrong.append(f"{word} has no value yet: there is nothing to replace")
    if wrong:
        raise RotationError(f"{'; '.join(wrong)} (accepted: names of secrets, {DUE} or {ALL})")
    return Asked(tuple(dict.fromkeys(words)), named=True)


def unfinished(
    rotations: Mapping[str, Rotation], wanted: Iterable[str], operation_id: str
) -> tuple[str, ...]:
    """Rotations that a run left, which this one ends and nothing else; none where nothing was left.

    Raises:
        RotationError: they belong to another command.
    """
    if rotations.keys() <= set(wanted) or all(
        found.operation == operation_id for found in rotations.values()
    ):
        return tuple(rotations)
    told = ", ".join(f"{name} ({found.phase})" for name, found in rotations.items())
    raise RotationError(
        f"a rotation of {told} was begun and not ended: end it first, -e secret={','.join(rotations)}"
    )


def by_hand(name: str) -> str:
    """Why a program can't bring a new value to all who read it, besides services; empty where it can."""
    others = [
        reader
        for reader in CATALOGUE[name].consumers
        if reader != CONTROLLER and not (reader == SUPABASE_FUNCTIONS and name in FUNCTION_SECRETS)
    ]
    return f"{name}: {', '.join(others)} must be given it by hand" if others else ""


def delivery(name: str, services: Iterable[str]) -> Delivery:
    """How services of a host, as Compose names them, take a new value of a secret.

    Raises:
        RotationError: one of them can't without losing requests.
    """
    found: dict[How, tuple[str, ...]] = {}
    for service in services:
        base = service
        for slot in Slot:
            base = base.removesuffix(f"-{slot}")
        if base not in _HOW:
            raise RotationError(
                f"{name}: {service} reads it, which can't be given another one while it serves"
            )
        found[_HOW[base]] = (*found.get(_HOW[base], ()), service)
    return Delivery(found)


def together(deliveries: Iterable[Delivery]) -> Delivery:
    """Several deliveries to a host as one."""
    found: dict[How, dict[str, None]] = {}
    for each in deliveries:
        for how, services in each.services.items():
            found.setdefault(how, {}).update(dict.fromkeys(services))
    return Delivery({how: tuple(sorted(services)) for how, services in found.items()})


def misplaced(found: Mapping[str, Sequence[str]], readers: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong with the values that a host's containers have.

    `found` are running services with `<secret> wanted` and `<secret> unwanted` of the values that they have;
    `readers` the services that read each secret, whether they run or not.
    """
    wrong = []
    for name, reading in readers.items():
        wrong += [
            f"{service} does not have the value of {name} that it must have"
            for service in reading
            if service in found and f"{name} wanted" not in found[service]
        ]
        wrong += [
            f"{service} has the other value of {name}"
            for service, has in found.items()
            if f"{name} unwanted" in has
        ]
    return wrong


def notices(name: str) -> str:
    """What is noticed of a rotation, where an old and a new value can't be valid at once."""
    overlap = CATALOGUE[name].rotation.overlap
    return "" if overlap.possible else overlap.how


@dataclass(frozen=True)
class Verdict:
    """How a rotation ended. `next`: what the operator does now, where the result alone does not say it."""

    result: Result
    message: str
    next: str = ""


def verdict(
    rotated: Sequence[str],
    left: Mapping[str, Rotation],
    failure: str,
    *,
    delivered: bool,
    not_undone: Mapping[str, str],
    lost: Sequence[str] = (),
    hands: Mapping[str, str] | None = None,
) -> Verdict:
    """How it ended, of what the record says now.

    `rotated` are through, `left` are not; `failure` is what went wrong first, if anything did. `delivered`:
    hosts had been given new values. `not_undone`: host to why it did not go back. `lost`: hosts that do not
    answer any more. `hands`: secrets that this command leaves to people, and what they do.
    """
    if not failure:
        told = [f"rotated: {', '.join(rotated)}"] if rotated else []
        told += [f"by hand: {' | '.join(hands.values())}"] if hands else []
        return Verdict(Result.OK, "; ".join(told) or "nothing to rotate")
    promoted = [name for name, found in left.items() if found.phase in _AFTER]
    if promoted:
        return Verdict(
            Result.FAILED,
            f"{failure}; {', '.join(promoted)}: the new value is in use, the old one may still be valid",
            "run the same command again: it goes on from there",
        )
    if lost:
        return Verdict(
            Result.UNCERTAIN,
            f"lost {', '.join(sorted(lost))}; {failure}; the old values are valid",
            "see that the host is up, then run the same command again: it ends the way back",
        )
    if not_undone:
        why = "; ".join(f"{host}: {said}" for host, said in sorted(not_undone.items()))
        return Verdict(Result.ROLLBACK_FAILED, f"not undone: {why}. It failed at {failure}")
    if left:
        labels = ", ".join(f"{name} (called {found.label})" for name, found in left.items())
        return Verdict(
            Result.FAILED,
            f"{failure}; the old values are in use. New ones may still be valid at their issuers: {labels}",
            "run the same command again when they answer: it makes them invalid",
        )
    result = Result.ROLLED_BACK if delivered else Result.FAILED
    return Verdict(result, f"{failure}; the old values are in use, no new one is left")


_AFTER = (RotationPhase.PROMOTED, RotationPhase.REVOKED)
