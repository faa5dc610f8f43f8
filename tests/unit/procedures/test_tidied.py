"""What is left to do on a host by its containers, where the record alone says that nothing is."""

from __future__ import annotations

import pytest

from infra.procedures.moves import Move, Step, advance, move
from infra.record import HostState
from infra.release.model import HostImage
from tests.unit.ansible.conftest import load_plugin
from tests.unit.procedures.releases import digest, state

tidied = load_plugin("action", "release_plan").tidied


def images(**containers: tuple[str, ...]) -> list[HostImage]:
    return [HostImage(digest(letter), f"id-{letter}", {}, names) for letter, names in containers.items()]


def after(*steps: Step) -> tuple[Move, HostState]:
    """A host that went from release a to b so far, by its record, and what the record leaves to do."""
    found = state("a")
    for step in steps:
        found = advance(found, "primary", step, digest("b"))
    host = found.host("primary")
    return move("primary", host, digest("b")), host


def test_a_slot_that_a_killed_run_did_not_stop_any_more_is_stopped() -> None:
    left, host = after(Step.START, Step.SWITCH, Step.STOP)
    assert left.steps == ()
    both = images(a=("agents-service-agents-blue-1",), b=("agents-service-agents-green-1",))
    assert tidied(left, host, both).steps == (Step.STOP,)


def test_nothing_is_left_where_only_what_serves_has_containers() -> None:
    left, host = after(Step.START, Step.SWITCH, Step.STOP)
    clean = images(a=(), b=("agents-service-agents-green-1", "agents-service-migrate-green-1"))
    assert tidied(left, host, clean) == left
    twice = HostImage(digest("c"), "id-b", {}, ("agents-service-agents-green-1",))
    assert tidied(left, host, [*clean, twice]) == left


@pytest.mark.parametrize("steps", [(), (Step.START,), (Step.START, Step.SWITCH)])
def test_a_move_that_has_steps_keeps_them(steps: tuple[Step, ...]) -> None:
    left, host = after(*steps)
    assert left.steps
    assert tidied(left, host, images(a=("x",), b=("y",), c=("z",))) == left
