"""Test only: the real rendering, whose files go into the simulated host."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.playbooks.rotate.simulated import Host, real


class ActionModule(real("project_files").ActionModule):  # type: ignore[misc]
    """The module's part is played by a directory."""

    def _execute_module(self, *_: Any, **named: Any) -> dict[str, Any]:
        arguments = named["module_args"]
        host = Host(named["task_vars"]["inventory_hostname"])
        contents = {
            path: base64.b64decode(content) for path, content in json.loads(arguments["payload"]).items()
        }
        if self._task.check_mode:
            return {"changed": any(host.read(path).encode() != text for path, text in contents.items())}
        written = [host.write(path, text) for path, text in contents.items()]
        return {"changed": any(written)}
