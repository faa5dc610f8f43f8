"""Which images stay on a host (IMG-2): rolling back needs neither registry nor internet."""

from __future__ import annotations

from collections.abc import Iterable

from infra.record import State

PREVIOUS_KEPT = 3
"""Releases before the running one that stay on every host."""


def kept(state: State, also: Iterable[str] = ()) -> list[str]:
    """Digests that stay: the last good release, the three before it, and whatever a slot of any host names.

    Slots of all hosts count on each: a host that fell behind may be given what another one runs.
    """
    before: dict[str, None] = {}
    for release in state.previous_releases:
        if release.digest != state.release.digest:
            before.setdefault(release.digest)
    slots = [digest for host in state.hosts.values() for digest in host.slots.values() if digest]
    return sorted({state.release.digest, *list(before)[:PREVIOUS_KEPT], *slots, *also})
