"""The table of tools: what, which version, from where."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table

from infra.toolchain.plugins import Installed
from infra.toolchain.resolve import Source, Tool


def origin(tool: Tool) -> str:
    """Say where a tool came from, and how what lies in the cache came there."""
    match tool.source:
        case Source.PATH:
            return f"PATH: {tool.binary}"
        case Source.CACHE:
            return "cache (built from Go modules)" if tool.pin.go else "cache (PyPI)"
        case _:
            return str(tool.source)


def show(
    tools: Iterable[Tool],
    others: Sequence[tuple[str, str, str]],
    plugins: Iterable[Installed],
    console: Console | None = None,
) -> None:
    """Print the table, sorted by name."""
    rows = [(tool.pin.name, tool.version, origin(tool)) for tool in tools]
    rows.append(("python", platform.python_version(), f"PATH: {os.path.realpath(sys.executable)}"))
    rows += others
    rows += [(f"plugin {item.plugin.name}", item.plugin.version, str(item.origin)) for item in plugins]
    table = Table("tool", "version", Column("from", overflow="fold"))
    for row in sorted(rows):
        table.add_row(*row)
    (console or Console()).print(table)
