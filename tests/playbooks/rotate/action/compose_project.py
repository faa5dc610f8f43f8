"""Test only: containers of a simulated host, by the rules of the module of this name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from tests.playbooks.rotate.simulated import Host


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes what the module takes. The file `<host>.fails` in the home says how many changes go well yet."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments, host = dict(self._task.args), Host((task_vars or {})["inventory_hostname"])
        state, services = arguments.get("state", "started"), arguments.get("services") or {}
        awaited = list(arguments.get("awaited") or [])
        if state == "steady":
            return result
        if state == "retired":
            gone = [name for name in arguments["idle"] if name in host.containers()]
            for name in [] if self._task.check_mode else gone:
                host.end(name)
            return {**result, "changed": bool(gone), "reasons": []}
        touched = awaited if arguments.get("alone") or state == "beside" else list(services)
        found = host.containers()
        wrong = [
            name
            for name in touched
            if found.get(name, {}).get("configuration") != services[name]["configuration"]
        ]
        reasons = [
            f"{name} {'has an outdated configuration' if name in found else 'has no container'}"
            for name in wrong
        ]
        broken = Path.home() / f"{host.name}.fails"
        if wrong and broken.exists() and not self._task.check_mode:
            if not (left := int(broken.read_text())):
                broken.unlink()
                return {**result, "failed": True, "msg": f"{wrong[0]} is unhealthy"}
            broken.write_text(str(left - 1))
        for name in [] if self._task.check_mode else wrong:
            host.make(name, services[name]["configuration"], beside=state == "beside")
        return {**result, "changed": bool(wrong), "reasons": reasons}
