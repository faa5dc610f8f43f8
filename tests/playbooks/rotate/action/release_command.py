"""Test only: the service's own tests, which need a key that OpenAI accepts in the slot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from tests.issuing import FileIssuer
from tests.playbooks.rotate.simulated import Host


class ActionModule(ActionBase):  # type: ignore[misc]
    """Asks the simulated container of the slot."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        host = Host((task_vars or {})["inventory_hostname"])
        given = host.containers()[f"agents-{self._task.args['slot']}"]["given"]
        found = re.search(r"^OPENAI_API_KEY=(.*)$", given, re.MULTILINE)
        issuer = FileIssuer(Path.home() / "issuers" / "openai-api-key.json")
        if found is None or not issuer.accepts(found[1]):
            return {**result, "failed": True, "msg": "`smoke` of the release failed: agent 502"}
        return result
