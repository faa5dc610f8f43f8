"""Test only: the real judgement, of what containers of the simulated host were given."""

from __future__ import annotations

from typing import Any

from tests.playbooks.rotate.simulated import Host, real


class ActionModule(real("secrets_in_use").ActionModule):  # type: ignore[misc]
    """The module's part is played by a directory."""

    def _execute_module(self, *_: Any, **named: Any) -> dict[str, Any]:
        host, values = Host(named["task_vars"]["inventory_hostname"]), named["module_args"]["values"]
        return {
            "changed": False,
            "found": {
                service: [name for name, value in values.items() if host.has(service, value)]
                for service in host.containers()
            },
        }
