"""Test only: the release's `flags` commands on a table in a file, which may be out of reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

GROUPS = ("internal", "pilot", "full")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Answers like the module of the same name; every call is written down."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        command, arguments = self._task.args["command"], list(self._task.args.get("arguments") or [])
        home = Path.home()
        if self._task.check_mode and command != "flags_list":
            return {**result, "changed": True, "skipped": True}
        with (home / "calls").open("a") as calls:
            calls.write(json.dumps([command, *arguments]) + "\n")
        if (home / f"{command}.fails").exists():
            return {**result, "failed": True, "msg": "flags: Supabase answered 503"}
        table = json.loads((home / "flags.json").read_text())
        match command:
            case "flags_set":
                flag, state, option, group = arguments
                assert option == "--group"
                table.setdefault(flag, {})[group] = state
            case "flags_disable":
                for flag in arguments:
                    table[flag] = dict.fromkeys(GROUPS, "off")
        (home / "flags.json").write_text(json.dumps(table))
        lines = [f"{flag}\t{group}\t{state}" for flag, rows in table.items() for group, state in rows.items()]
        return {
            **result,
            "changed": command != "flags_list",
            "stdout": "\n".join(lines),
            "stdout_lines": lines,
        }
