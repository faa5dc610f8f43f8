"""Test only: every host has the image of the record's release."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

DIGEST = f"sha256:{'1' * 64}"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Sets the fact that the action of this name sets."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        image = {"digest": DIGEST, "id": DIGEST, "labels": {}, "containers": []}
        return {**result, "ansible_facts": {"icupa_release_images": [image]}}
