"""The table of tools: what, which version, from where."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from infra.toolchain.plugins import Installed
from infra.toolchain.resolve import Source, Tool


def origin(tool: Tool) -> str:
    """Say where a tool came from, and how what lies in the cache came there."""
    if tool.source is Source.CACHE:
        return "cache (built from Go modules)" if tool.pin.go else "cache (PyPI)"
    return str(tool.source)


def show(
    tools: Iterable[Tool],
    others: Sequence[tuple[str, str, str]],
    plugins: Iterable[Installed],
    console: Console | None = None,
) -> None:
    """Print the table, sorted by name."""
    table = Table("tool", "version", "from", "where")
    rows = [(tool.pin.name, tool.version, origin(tool), str(tool.binary)) for tool in tools]
    rows.append(("python", platform.python_version(), "PATH", ""))
    rows += [(*row, "") for row in others]
    rows += [
        (f"plugin {found.plugin.name}", found.plugin.version, str(found.origin), str(found.plugin.folder))
        for found in plugins
    ]
    for row in sorted(rows):
        table.add_row(*row)
    (console or Console()).print(table)
