"""Test only: messages go to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes what the action of the same name takes."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not self._task.check_mode:
            with (Path.home() / "messages").open("a") as messages:
                messages.write(json.dumps(dict(self._task.args)) + "\n")
        return result
