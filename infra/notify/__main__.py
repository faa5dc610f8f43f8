"""`python -m infra.notify`: show the messages that were not delivered yet, deliver them."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from infra.notify import background
from infra.notify.outbox import Queued
from infra.notify.stack import NotifyError, Post
from infra.record import RecordError

_WIDTH = 200
"""Columns where the output is no terminal."""

_TIME = "%Y-%m-%d %H:%M:%S"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.notify", description=__doc__)
    parser.add_argument("--stack", required=True, help="name of a stack")
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="messages that were not delivered yet, and why")
    deliver = commands.add_parser(
        "deliver", help="try every message once, refused ones too; exits 1 if any is left"
    )
    deliver.add_argument(
        "--background",
        action="store_true",
        help="be the deliverer that procedures start: try again until nothing waits",
    )
    deliver.add_argument(
        "--limit", type=float, default=background.LIMIT, help="with --background: seconds at most"
    )
    return parser


def _table(queue: Sequence[Queued]) -> Table:
    table = Table()
    for name in ("message", "channel", "queued (UTC)", "state", "attempts", "title", "last problem"):
        table.add_column(name, overflow="fold")
    for queued in queue:
        entry = queued.entry
        table.add_row(
            entry.message.id[:12],
            f"#{entry.message.channel}",
            f"{entry.message.at:{_TIME}}",
            entry.state,
            str(entry.attempts),
            entry.message.title,
            entry.problem,
        )
    return table


def _list(post: Post, console: Console, as_json: bool) -> int:
    queue = post.outbox.entries()
    if as_json:
        shown = [{**queued.entry.model_dump(mode="json"), "state": queued.entry.state} for queued in queue]
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    elif queue:
        console.print(_table(queue))
    else:
        console.print("no message waits")
    return 0


def _deliver(post: Post, console: Console, as_json: bool) -> int:
    done = post.deliverer().once(refused=True)
    if as_json:
        shown = {"sent": done.sent, "waiting": done.waiting, "refused": done.refused}
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        console.print(f"{len(done.sent)} delivered")
        if done.waiting or done.refused:
            console.print(_table(post.outbox.entries()))
    return 1 if done.waiting or done.refused else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 with the reason on standard error or in the table."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        post = Post(options.stack)
        match options.command:
            case "list":
                return _list(post, console, options.json)
            case _ if options.background:
                logging.basicConfig(
                    level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
                )
                logging.getLogger("httpx").setLevel(logging.WARNING)
                return 0 if background.deliver(options.stack, post.deliverer(), options.limit) else 1
            case _:
                # The table says what went wrong.
                logging.getLogger("infra.notify").setLevel(logging.ERROR)
                return _deliver(post, console, options.json)
    except (NotifyError, RecordError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
