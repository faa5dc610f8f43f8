"""Test only: writes down each task that starts, kills the controller after some; see DOCUMENTATION."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: killer
type: aggregate
short_description: Kills the controller in a test
description:
  - C(KILLER_TRACE) names the file that gets a line for each task, and an empty one for each host that the
    task changed; after C(KILLER_AFTER) tasks have ended, the controller's process group is killed, in the
    moment before the next one would start.
requirements: []
options: {}
author: ICUPA platform
"""

TRACE = "KILLER_TRACE"
AFTER = "KILLER_AFTER"


class CallbackModule(CallbackBase):
    """Counts tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "killer"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self) -> None:
        super().__init__()
        self._trace = Path(os.environ[TRACE])
        self._after = int(os.environ.get(AFTER, "0"))
        self._started = 0

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """All tasks before this one have ended on all hosts."""
        self._die_in_time()
        self._started += 1
        with self._trace.open("a") as trace:
            trace.write(f"{task.get_name()}\n")

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a step like any other."""
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_ok(self, result: Any) -> None:
        """What a task changed is there when the next one starts."""
        if result.is_changed():
            with self._trace.open("a") as trace:
                trace.write("\n")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The last one has ended."""
        self._die_in_time()

    def _die_in_time(self) -> None:
        if self._after and self._started == self._after:
            if os.getpgrp() != os.getpid():
                raise AssertionError("the controller is not alone in its process group")
            os.killpg(0, signal.SIGKILL)
