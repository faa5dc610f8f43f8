"""Controller side of `host_files`: renders files that name a `template` of the role."""

from __future__ import annotations

from typing import Any

from ansible.template import trust_as_template

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Gives every file its `content`; all else is the module's."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, then hand to the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        files: list[dict[str, Any]] = []
        for wanted in arguments.get("files") or []:
            entry = dict(wanted)
            name = entry.pop("template", None)
            if name is not None:
                entry["content"] = self._render(f"{name}.j2")
            files.append(entry)
        result.update(
            self._execute_module(
                module_name="host_files", module_args={**arguments, "files": files}, task_vars=task_vars
            )
        )
        return result

    def _render(self, name: str) -> str:
        """Text of a template of the role.

        Not by the lookup `template`, which copies all variables of the host each time.
        """
        path = self._find_needle("templates", name)
        text = trust_as_template(self._loader.get_text_file_contents(path))
        rendered: str = self._templar.template(text, escape_backslashes=False)
        return rendered
