"""Plans of deploys and their undoing, from any moment at which a run may have been killed; verdicts."""

from __future__ import annotations

import itertools

import pytest

from infra.procedures import deploy
from infra.procedures.moves import Step, advance, foreseen, moves, restarts, unfinished
from infra.procedures.operation import Failure, ProcedureError
from infra.record import Result, Slot, State
from infra.record.model import now
from tests.unit.procedures.releases import HOSTS, checked, digest, state

ALL = tuple(Step)


def steps(found: State, letter: str, *, undo: bool = False) -> dict[str, tuple[Step, ...]]:
    return {move.host: move.steps for move in moves(found, digest(letter), HOSTS, undo=undo)}


def taken(found: State, host: str, letter: str, *which: Step) -> State:
    for step in which:
        found = advance(found, host, step, digest(letter))
    return found


def test_a_deploy_moves_every_host_by_all_steps() -> None:
    plan = deploy.plan(state("a"), digest("b"), HOSTS)
    assert plan.steps() == {host: [step.value for step in Step] for host in HOSTS}
    assert not plan.nothing_to_do
    assert plan.lines[0].startswith(
        "primary: sha256:aaaaaaaaaaaa -> sha256:bbbbbbbbbbbb in green: start, check"
    )


def test_what_serves_already_is_left_alone() -> None:
    plan = deploy.plan(state("a"), digest("a"), HOSTS)
    assert plan.nothing_to_do
    assert plan.lines[0].endswith("serves in blue already, nothing to do")


def test_after_all_steps_only_the_new_release_runs_and_the_old_image_is_remembered() -> None:
    host = taken(state("a"), "primary", "b", *ALL).host("primary")
    assert (host.active_slot, host.running) == (Slot.GREEN, (Slot.GREEN,))
    assert host.slots == {Slot.BLUE: digest("a"), Slot.GREEN: digest("b")}


@pytest.mark.parametrize("killed_after", range(len(ALL) + 1))
def test_a_run_that_was_killed_goes_on_and_ends_the_same(killed_after: int) -> None:
    killed = taken(state("a"), "primary", "b", *ALL[:killed_after])
    left = steps(killed, "b")
    assert left["standby"] == ALL
    done = taken(killed, "primary", "b", *left["primary"])
    assert done.host("primary") == taken(state("a"), "primary", "b", *ALL).host("primary")
    assert (left["primary"] == ()) == (killed_after == len(ALL))


@pytest.mark.parametrize("failed_after", range(len(ALL) + 1))
def test_undoing_leaves_only_the_last_good_release(failed_after: int) -> None:
    failed = taken(state("a"), "primary", "b", *ALL[:failed_after])
    back = deploy.undo_plan(failed, HOSTS)
    undone = taken(failed, "primary", "a", *(Step(step) for step in back.steps()["primary"]))
    assert unfinished(undone, HOSTS) == {}
    assert undone.host("primary").digests == {digest("a")}
    assert back.steps()["standby"] == []


def test_what_never_served_is_only_stopped() -> None:
    failed = taken(state("a"), "primary", "b", Step.START, Step.CHECK)
    assert steps(failed, "a", undo=True)["primary"] == (Step.STOP,)


def test_what_served_is_switched_from_before_it_is_stopped() -> None:
    failed = taken(state("a"), "primary", "b", Step.START, Step.CHECK, Step.SWITCH)
    back = steps(failed, "a", undo=True)["primary"]
    assert back == (Step.START, Step.SWITCH, Step.SMOKE, Step.STOP)


def test_another_release_replaces_what_a_killed_deploy_left() -> None:
    killed = taken(state("a"), "primary", "b", Step.START)
    done = taken(killed, "primary", "c", *steps(killed, "c")["primary"])
    assert done.host("primary").digests == {digest("c")}
    assert digest("b") not in done.host("primary").slots.values()


def restarted(found: State, host: str, slot: Slot, *which: Step) -> State:
    for step in which:
        found = advance(found, host, step, digest("a"), slot)
    return found


def left(found: State, slot: Slot, *, undo: bool = False) -> tuple[Step, ...]:
    return restarts(found, {"primary": slot}, undo=undo)[0].steps


def test_a_restart_goes_to_the_other_slot_at_the_same_release() -> None:
    assert left(state("a"), Slot.GREEN) == ALL
    half = restarted(state("a"), "primary", Slot.GREEN, Step.START, Step.CHECK)
    host = half.host("primary")
    assert (host.active_slot, host.running) == (Slot.BLUE, (Slot.BLUE, Slot.GREEN))
    done = restarted(state("a"), "primary", Slot.GREEN, *ALL)
    host = done.host("primary")
    assert (host.active_slot, host.running, host.digest) == (Slot.GREEN, (Slot.GREEN,), digest("a"))
    assert done.host("standby") == state("a").host("standby")


@pytest.mark.parametrize("killed_after", range(len(ALL) + 1))
def test_a_restart_that_was_killed_goes_on_and_ends_the_same(killed_after: int) -> None:
    killed = restarted(state("a"), "primary", Slot.GREEN, *ALL[:killed_after])
    steps_left = left(killed, Slot.GREEN)
    assert Step.STOP in steps_left, "the host may not have followed"
    done = restarted(killed, "primary", Slot.GREEN, *steps_left)
    assert done == restarted(state("a"), "primary", Slot.GREEN, *ALL)


@pytest.mark.parametrize("failed_after", range(len(ALL) + 1))
def test_a_restart_is_undone_to_the_slot_that_served(failed_after: int) -> None:
    failed = restarted(state("a"), "primary", Slot.GREEN, *ALL[:failed_after])
    steps_back = left(failed, Slot.BLUE, undo=True)
    assert Step.CHECK not in steps_back
    assert (Step.START in steps_back) == (failed.host("primary").active_slot is Slot.GREEN)
    undone = restarted(failed, "primary", Slot.BLUE, *steps_back).host("primary")
    assert (undone.active_slot, undone.running) == (Slot.BLUE, (Slot.BLUE,))


def test_a_restart_starts_no_other_release() -> None:
    with pytest.raises(ProcedureError, match="primary serves sha256:aaaaaaaaaaaa in blue"):
        advance(state("a"), "primary", Step.START, digest("b"), Slot.BLUE)


@pytest.mark.parametrize("which", [Step.SWITCH, Step.STOP])
def test_a_step_needs_the_one_before(which: Step) -> None:
    with pytest.raises(ProcedureError, match=r"does not run|nothing may be stopped"):
        advance(state("a"), "primary", which, digest("b"))


@pytest.mark.parametrize("which", list(Step))
def test_a_step_that_was_taken_changes_nothing(which: Step) -> None:
    once = taken(state("a"), "primary", "b", *itertools.takewhile(lambda step: step is not which, ALL), which)
    assert advance(once, "primary", which, digest("b")) == once


def test_a_dry_run_foretells_each_step() -> None:
    assert foreseen(state("a"), "primary", Step.START, digest("b")).host("primary").running == tuple(Slot)
    assert foreseen(state("a"), "primary", Step.STOP, digest("b")).host("primary").digests == {digest("b")}


def test_a_host_that_the_record_does_not_know_is_refused() -> None:
    with pytest.raises(ProcedureError, match="does not know third: run the site play"):
        deploy.plan(state("a"), digest("b"), [*HOSTS, "third"])


REASONS = ("agents-green has no container", "migrate-green has not ended well (exited, exit code 1)")


def test_the_slot_that_does_not_serve_may_be_anything() -> None:
    assert deploy.not_ready(REASONS, Slot.BLUE, accept_unhealthy=False) == []
    assert deploy.not_ready(REASONS, Slot.GREEN, accept_unhealthy=True) == list(REASONS)


def test_what_a_killed_run_left_under_way_is_waited_for() -> None:
    running = ["migrate-blue has not ended well (running, exit code 0)"]
    assert deploy.not_ready(running, Slot.BLUE, accept_unhealthy=False) == []
    ended = ["migrate-blue has not ended well (exited, exit code 1)"]
    assert deploy.not_ready(ended, Slot.BLUE, accept_unhealthy=False) == ended


def test_an_ill_release_is_replaced_only_where_that_is_said() -> None:
    ill = ["agents-blue is unhealthy"]
    assert deploy.not_ready(ill, Slot.BLUE, accept_unhealthy=False) == ill
    assert deploy.not_ready(ill, Slot.BLUE, accept_unhealthy=True) == []


@pytest.mark.parametrize("service", ["traefik", "agents-blue", "postgres"])
def test_what_would_be_made_anew_on_the_way_is_refused(service: str) -> None:
    outdated = [f"{service} has an outdated configuration"]
    assert deploy.not_ready(outdated, Slot.BLUE, accept_unhealthy=True) == outdated


def test_the_release_is_the_last_good_one_when_every_host_serves_it_alone() -> None:
    moved = state("a")
    for host in HOSTS:
        with pytest.raises(ProcedureError, match="does not serve alone on"):
            deploy.deployed(moved, checked("b"), "bob")
        moved = taken(moved, host, "b", *ALL)
    done = deploy.deployed(moved, checked("b"), "bob")
    assert (done.release.digest, done.release.by) == (digest("b"), "bob")
    assert done.previous_releases == (moved.release,)
    assert deploy.deployed(done, checked("b"), "carol") == done


FAILURE = Failure(step="check", message="smoke failed", at=now())


def verdict(found: State, **more: object) -> deploy.Verdict:
    given = {"moved": True, "not_undone": {}, **more}
    return deploy.verdict(found, FAILURE, **given)  # type: ignore[arg-type]


def test_undone_everywhere_is_rolled_back() -> None:
    found = verdict(state("a"))
    assert found.result is Result.ROLLED_BACK
    assert "smoke failed" in found.message


def test_failed_before_anything_moved_is_failed() -> None:
    assert verdict(state("a"), moved=False).result is Result.FAILED


def test_what_did_not_go_back_is_named() -> None:
    left = taken(state("a"), "primary", "b", Step.START, Step.SWITCH)
    found = verdict(left, not_undone={"primary": "the proxy does not answer"})
    assert found.result is Result.ROLLBACK_FAILED
    assert "primary serves sha256:bbbbbbbbbbbb: the proxy does not answer" in found.message


def test_a_record_that_went_back_is_not_enough() -> None:
    assert verdict(state("a"), not_undone={"standby": "not stopped"}).result is Result.ROLLBACK_FAILED


def test_a_host_that_was_lost_makes_it_uncertain() -> None:
    found = verdict(state("a"), lost=["standby"])
    assert found.result is Result.UNCERTAIN
    assert "site play" in found.next
