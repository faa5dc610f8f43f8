"""Test only: the real judgement, of what containers of the simulated host were given."""

from __future__ import annotations

from typing import Any

from tests.playbooks.rotate.simulated import Host, real


class ActionModule(real("secrets_in_use").ActionModule):  # type: ignore[misc]
    """The module's part is played by a directory."""

    def _execute_module(self, *_: Any, **named: Any) -> dict[str, Any]:
        host, arguments = Host(named["task_vars"]["inventory_hostname"]), named["module_args"]
        if named["module_name"] == "service_answers":
            return self._answers(host, arguments["checks"])
        values = arguments["values"]
        return {
            "changed": False,
            "found": {
                service: [name for name, value in values.items() if host.has(service, value)]
                for service in host.containers()
            },
        }

    @staticmethod
    def _answers(host: Host, checks: list[dict[str, Any]]) -> dict[str, Any]:
        wrong = [
            check["service"]
            for check in checks
            if host.has(check["service"], f"METRICS_TOKEN={check['bearer']}") is (check.get("status") == 401)
        ]
        return {"failed": bool(wrong), "msg": f"{', '.join(wrong)} answers otherwise"}
