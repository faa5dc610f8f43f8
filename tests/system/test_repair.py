"""A run killed half way is repaired by `make up`; one that lives is left alone (issue 3, acceptance 7).

All moments: `make bench NAME=repair`.
"""

from __future__ import annotations

import os
import signal

import pytest

from infra import local
from tests.kills import (
    PLAY_MOMENTS,
    PROGRAM_MOMENTS,
    Moment,
    anew,
    held,
    kill_play,
    kill_program,
    repaired,
    running,
    settled,
)
from tests.running import UP, command
from tests.waiting import eventually

pytestmark = pytest.mark.system


def test_the_lock_of_a_living_run_is_left_alone() -> None:
    with running(anew([local.TRACES.name])) as holder:
        eventually(lambda: held() is not None, "the run has taken the lock")
        lock = held()
        assert lock is not None
        # Stopped, so that it can't end before its lock is asked for.
        os.kill(lock.pid, signal.SIGSTOP)
        try:
            refused = command(UP)
            assert held() == lock
        finally:
            os.kill(lock.pid, signal.SIGCONT)
        output, _ = holder.communicate()
        assert holder.returncode == 0, output
    assert refused.returncode == 1
    assert f"process {lock.pid}" in refused.stderr
    assert "which is running" in refused.stderr
    settled()


@pytest.mark.parametrize("moment", PROGRAM_MOMENTS[2::2], ids=lambda moment: moment.name)
def test_a_killed_program_is_repaired(moment: Moment) -> None:
    kill_program(moment)
    repaired()


@pytest.mark.parametrize("moment", PLAY_MOMENTS[1::3], ids=lambda moment: moment.name)
def test_a_killed_site_play_is_repaired(moment: Moment) -> None:
    kill_play(moment)
    repaired()
