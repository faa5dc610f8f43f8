"""Test only: the real rendering, and containers of a simulated host."""

from __future__ import annotations

from typing import Any

from tests.playbooks.rotate.simulated import Host, real

DIGEST = f"sha256:{'1' * 64}"


class ActionModule(real("release_look").ActionModule):  # type: ignore[misc]
    """The module's part is played by a directory; every host has the image of the record's release."""

    _requires_connection = False

    def _execute_module(self, *_: Any, **named: Any) -> dict[str, Any]:
        services = named["module_args"]["services"]
        found = Host(named["task_vars"]["inventory_hostname"]).containers()
        reasons = [
            f"{name} {'has an outdated configuration' if name in found else 'has no container'}"
            for name, wanted in services.items()
            if found.get(name, {}).get("configuration") != wanted["configuration"]
        ]
        image = {"digest": DIGEST, "id": DIGEST, "labels": {}, "containers": []}
        return {"images": [image], "reasons": reasons, "ready": not reasons}
