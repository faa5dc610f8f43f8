"""The playbook on the controller alone: what needs no host."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from infra.paths import REPOSITORY
from infra.record import Maintenance, State
from infra.record.model import now
from tests.controller import Controller

PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "maintenance.yml"
WHY = ("-e", "why='security updates'")


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%MZ}"


def at(moment: datetime) -> tuple[str, ...]:
    return ("-e", f"at={stamp(moment)}", *WHY)


def maintenance(controller: Controller) -> Maintenance:
    return controller.record.state().maintenance


def test_a_window_is_announced_and_not_begun_before_its_time(controller: Controller) -> None:
    moment = now().replace(second=0, microsecond=0) + timedelta(hours=49)
    done = controller.play(PLAYBOOK, *at(moment))
    assert done.returncode == 0, done.stdout
    assert "maintenance: OK" in done.stdout
    assert f"maintenance is planned for {moment:%Y-%m-%d %H:%M} UTC" in done.stdout
    assert "run this command again at" in done.stdout
    window = maintenance(controller).window
    assert window is not None
    assert (window.at, window.why, window.done) == (moment, "security updates", ())
    assert not maintenance(controller).enabled

    again = controller.play(PLAYBOOK, *at(moment))
    assert again.returncode != 0
    assert "run this command then, or say why it can't wait" in " ".join(again.stdout.split())
    assert maintenance(controller).window == window
    assert controller.record.state().lock is None


def test_a_window_is_called_off(controller: Controller) -> None:
    moment = now() + timedelta(hours=49)
    controller.play(PLAYBOOK, *at(moment))
    done = controller.play(PLAYBOOK, "-e", "mode=cancel")
    assert done.returncode == 0, done.stdout
    assert maintenance(controller) == Maintenance()


def test_short_notice_is_kept_with_its_reason(controller: Controller) -> None:
    moment = now() + timedelta(hours=2)
    assert controller.play(PLAYBOOK, *at(moment)).returncode != 0
    assert maintenance(controller).window is None
    done = controller.play(PLAYBOOK, *at(moment), "-e", "short_notice='kernel leak'")
    assert done.returncode == 0, done.stdout
    window = maintenance(controller).window
    assert window is not None
    assert window.short_notice == "kernel leak"


@pytest.mark.parametrize(
    "options",
    [("-e", "mode=on", *WHY), at(now() + timedelta(hours=49)), ("-e", "mode=off")],
    ids=["on", "window", "off"],
)
def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    controller: Controller, options: tuple[str, ...]
) -> None:
    before, state = controller.record.last_event(), controller.record.state()
    done = controller.play(PLAYBOOK, *options, "--check")
    assert "(check mode)" in done.stdout
    assert "would do" in done.stdout
    assert (controller.record.last_event(), controller.record.state()) == (before, state)


def test_what_goes_wrong_while_it_is_on_does_not_hide_that(controller: Controller) -> None:
    # The one host of this stack does not exist.
    done = controller.play(PLAYBOOK, "-e", "mode=on", *WHY)
    assert done.returncode != 0
    assert "maintenance is ON: users get 503" in " ".join(done.stdout.split())
    assert maintenance(controller).enabled

    off = controller.play(PLAYBOOK, "-e", "mode=off")
    assert "maintenance was on already, since" in " ".join(off.stdout.split())
    assert not maintenance(controller).enabled


def test_a_window_does_nothing_without_its_backup(controller: Controller) -> None:
    # The one host of this stack has no database.
    moment = now() - timedelta(minutes=1)
    done = controller.play(PLAYBOOK, *at(moment), "-e", "short_notice=now")
    assert done.returncode == 2, done.stdout
    assert "TASK [backup : Back up the active host's database" in done.stdout
    assert "PLAY [Turn maintenance on]" not in done.stdout
    found = maintenance(controller)
    assert not found.enabled
    assert found.window is not None
    assert found.window.done == ()


def test_a_window_that_is_complete_is_not_done_again(controller: Controller) -> None:
    moment = now().replace(second=0, microsecond=0)

    def completed(state: State) -> State:
        return state.changed(maintenance=Maintenance(completed=moment))

    with controller.record.lease("test") as held:
        held.update("test", completed)
    done = controller.play(PLAYBOOK, *at(moment))
    assert done.returncode == 0, done.stdout
    assert "is complete" in done.stdout
