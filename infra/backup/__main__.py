"""`python -m infra.backup --stack NAME`: the backups that an environment has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from infra.backup.model import BackupError
from infra.backup.store import listed, load
from infra.record import RecordError, open_store
from infra.record.stack import load_stack

_WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Print them, newest first; 1 where they can't be read."""
    parser = argparse.ArgumentParser(prog="python -m infra.backup", description=__doc__)
    parser.add_argument("--stack", required=True, help="name of the stack")
    given = parser.parse_args(arguments)
    table = Table("id", "host", "database", "revision", "KiB", "tables", "rows", "proven")
    try:
        store = open_store(load_stack(given.stack).record)
        for name in reversed(listed(store)):
            found = load(store, name)
            table.add_row(
                found.id,
                found.host,
                found.database,
                found.revision or "-",
                f"{found.size / 1024:,.0f}",
                str(len(found.tables)),
                str(found.rows),
                f"restored, {found.proof.tables} tables the same",
            )
    except (RecordError, BackupError) as error:
        print(error, file=sys.stderr)
        return 1
    if not table.row_count:
        take = f"ansible-playbook ansible/playbooks/backup.yml -e stack={given.stack}"
        print(f"stack {given.stack} has no backup: {take} takes one")
        return 0
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
