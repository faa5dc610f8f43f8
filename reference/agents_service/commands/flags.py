"""`flags`."""

from __future__ import annotations

import argparse
import asyncio

import httpx

from ..auth import TENANT_GROUPS
from ..config import SupabaseSettings, load
from ..flags import FlagTable


def configure(parser: argparse.ArgumentParser) -> None:
    """Take `list`, `set` and `disable`."""
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="show every flag")
    change = actions.add_parser("set", help="turn a flag on or off")
    change.add_argument("key")
    change.add_argument("value", choices=("on", "off"))
    change.add_argument("--group", choices=TENANT_GROUPS, action="append", help="default: every group")
    disable = actions.add_parser("disable", help="turn flags off for every tenant group")
    disable.add_argument("key", nargs="+")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and list what is then."""
    asyncio.run(_run(load(SupabaseSettings), arguments))
    return 0


async def _run(settings: SupabaseSettings, arguments: argparse.Namespace) -> None:
    async with httpx.AsyncClient() as client:
        table = FlagTable(settings, client)
        if arguments.action == "set":
            groups = arguments.group or list(TENANT_GROUPS)
            await table.set(arguments.key, dict.fromkeys(groups, arguments.value == "on"))
        elif arguments.action == "disable":
            for key in arguments.key:
                await table.disable(key)
        for row in sorted(await table.rows(), key=lambda row: (row.key, row.tenant_group)):
            print(f"{row.key}\t{row.tenant_group}\t{'on' if row.enabled else 'off'}")
