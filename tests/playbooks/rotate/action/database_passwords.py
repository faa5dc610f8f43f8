"""Test only: the real arguments, for databases of the simulated host."""

from __future__ import annotations

from typing import Any

from tests.playbooks.rotate.simulated import Host, real


class ActionModule(real("database_passwords").ActionModule):  # type: ignore[misc]
    """The module's part is played by a file with the passwords that each database accepts."""

    def _execute_module(self, *_: Any, **named: Any) -> dict[str, Any]:
        host, arguments = Host(named["task_vars"]["inventory_hostname"]), named["module_args"]
        before = host.databases()
        after = {key: dict(found) for key, found in before.items()}
        postgres, redis = arguments["postgres"], arguments["redis"]
        for role in postgres["roles"]:
            after["postgres"][role["name"]] = role["password"]
        for name in postgres["retired"]:
            after["postgres"].pop(name, None)
        if redis["alone"]:
            after["redis"].clear()
        after["redis"][redis["password"]] = ""
        if not self._task.check_mode:
            host.set_databases(after)
        return {"changed": after != before, "did": ["its databases were told"] if after != before else []}
