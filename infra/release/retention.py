"""Which images stay on a host (IMG-2): rolling back needs neither registry nor internet."""

from __future__ import annotations

from collections.abc import Iterable

from infra.record import State

PREVIOUS_KEPT = 3
"""Releases before the running one that stay on every host."""


def previous_kept(state: State) -> list[str]:
    """Digests of the releases before the last good one that stay on every host, newest first."""
    before = dict.fromkeys(
        release.digest for release in state.previous_releases if release.digest != state.release.digest
    )
    return list(before)[:PREVIOUS_KEPT]


def kept(state: State, also: Iterable[str] = ()) -> list[str]:
    """Digests that stay: the last good release, the three before it, and whatever a slot of any host names.

    Slots of all hosts count on each: a host that fell behind may be given what another one runs.
    """
    slots = [digest for host in state.hosts.values() for digest in host.slots.values() if digest]
    return sorted({state.release.digest, *previous_kept(state), *slots, *also})
