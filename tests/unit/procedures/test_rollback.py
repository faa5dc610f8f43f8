"""Where a rollback goes, and which flags it turns off."""

from __future__ import annotations

import pytest

from infra.procedures import rollback
from infra.procedures.moves import Step, advance
from infra.procedures.operation import ProcedureError
from infra.record import Event, Result
from tests.unit.procedures.releases import HOSTS, checked, digest, event, state


def test_goes_to_the_release_before() -> None:
    found = rollback.target(state("c", "b", "a"), None)
    assert (found.release, found.bad) == (digest("b"), digest("c"))


def test_goes_to_the_last_good_one_where_a_deploy_was_left_half_way() -> None:
    half = advance(state("b", "a"), "primary", Step.START, digest("c"))
    for found in (half, advance(half, "primary", Step.SWITCH, digest("c"))):
        aim = rollback.target(found, None)
        assert (aim.release, aim.bad) == (digest("b"), digest("c"))


def test_goes_where_it_is_told() -> None:
    found = rollback.target(state("c", "b"), "v1.2")
    assert (found.release, found.bad) == ("v1.2", digest("c"))


def test_the_first_release_has_none_before() -> None:
    with pytest.raises(ProcedureError, match="no release before sha256:aaaaaaaaaaaa: name one"):
        rollback.target(state("a"), None)


def moved(letter: str, *former: str, to: str) -> object:
    found = state(letter, *former)
    for host in HOSTS:
        for step in Step:
            found = advance(found, host, step, digest(to))
    return rollback.rolled_back(found, checked(to), "bob")


def test_no_later_rollback_goes_to_the_bad_one() -> None:
    done = moved("c", "b", "a", to="b")
    assert done.release.digest == digest("b")  # type: ignore[attr-defined]
    assert [former.digest for former in done.previous_releases] == [digest("a")]  # type: ignore[attr-defined]


def phase(flag: str, group: str, *, enabled: bool) -> object:
    return event("rollout.phase", flag=flag, group=group, enabled=enabled)


def test_flags_that_were_turned_on_since_the_bad_release_are_found() -> None:
    events = [
        event("deploy.release", "b"),
        phase("old.flag", "pilot", enabled=True),
        event("deploy.start", "c"),
        event("deploy.release", "c"),
        phase("new.flag", "internal", enabled=True),
        phase("new.flag", "pilot", enabled=True),
        phase("brief.flag", "internal", enabled=True),
        phase("brief.flag", "all", enabled=False),
        phase("half.flag", "internal", enabled=True),
        phase("half.flag", "pilot", enabled=True),
        phase("half.flag", "pilot", enabled=False),
    ]
    assert rollback.flags_turned_on(events, digest("c")) == ["new.flag", "half.flag"]  # type: ignore[arg-type]


def test_none_are_found_where_none_were_turned_on() -> None:
    assert rollback.flags_turned_on([event("deploy.release", "c")], digest("c")) == []


OWN = "rollback-1"
CHOSEN = event("rollback.target", operation_id=OWN, release="b", bad="c", why="because")


@pytest.mark.parametrize(
    "since",
    [
        [],
        [event("rollback.start", "b", operation_id=OWN)],
        [event("rollback.release", "b", operation_id=OWN)],
        [event("rollback.end", operation_id=OWN, result=Result.UNCERTAIN)],
        [event("rollback.end", operation_id=OWN, result=Result.ROLLBACK_FAILED)],
        [event("site.end", operation_id="site-1")],
    ],
)
def test_a_rollback_that_did_not_end_goes_on_to_where_it_was_going(since: list[Event]) -> None:
    found = rollback.resumed([event("deploy.release", "c"), CHOSEN, *since], OWN)
    assert found == rollback.Target("b", "c", "because")


@pytest.mark.parametrize(
    "since",
    [
        [event("rollback.end", operation_id=OWN)],
        [event("rollback.end", operation_id=OWN, result=Result.ROLLED_BACK)],
        [event("deploy.release", "d", operation_id="deploy-1")],
    ],
)
def test_a_rollback_that_is_over_is_not_gone_on_with(since: list[Event]) -> None:
    assert rollback.resumed([CHOSEN, *since], OWN) is None
    assert rollback.resumed([CHOSEN], "rollback-2") is None
