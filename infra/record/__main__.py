"""`python -m infra.record`: show the state, list events, tell the history, verify the log, bootstrap."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.table import Table

from infra.record import (
    ConfigError,
    Record,
    RecordConfig,
    RecordError,
    Release,
    Verification,
    history,
    open_record,
)
from infra.record.model import HostState, Maintenance, State
from infra.record.stack import load_stack
from infra.services.model import Slot

_WIDTH = 200
"""Columns where the output is no terminal."""

_FORMER_SHOWN = 5
"""Releases before the running one that `show` lists, newest first; with --json it shows all."""

_TABLE, _JSON, _MARKDOWN = _FORMATS = ("table", "json", "markdown")
_CHANGES, _ROLLBACKS = _LOGS = ("changes", "rollbacks")

_TIME = "%Y-%m-%d %H:%M:%S"


class _First(BaseModel):
    """What `bootstrap` reads from standard input."""

    model_config = ConfigDict(extra="forbid")

    release: Release
    hosts: list[str]
    switches: dict[str, bool]
    active_region: str
    active_host: str | None = None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.record", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--stack", help="name of a stack; its file names the record's store")
    where.add_argument("--url", help="store: file:///path, s3://bucket/prefix, gs://…, az://…")
    parser.add_argument("--endpoint", help="with --url: endpoint of an S3-compatible store")
    parser.add_argument("--region", help="with --url: region of an S3 store")
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", help="the state as it is now")
    events = commands.add_parser("events", help="the newest events, oldest first")
    events.add_argument("--limit", type=int, default=20)
    told = commands.add_parser("history", help="releases, rollbacks, switches, maintenance: newest first")
    told.add_argument("--limit", type=int, help="operations at most")
    told.add_argument("--all", action="store_true", help="site plays that changed nothing, too")
    told.add_argument("--format", choices=_FORMATS, default=_TABLE, help="markdown: change log, rollback log")
    told.add_argument("--log", choices=_LOGS, help="with --format markdown: one of the two only")
    told.add_argument(
        "--verify", action="store_true", help="check the chain of events first; exits 1 if anything is wrong"
    )
    commands.add_parser(
        "verify", help="check the chain of events and its anchor; exits 1 if anything is wrong"
    )
    commands.add_parser(
        "bootstrap", help="write the first state, JSON on standard input, where there is none"
    )
    return parser


def _config(options: argparse.Namespace) -> RecordConfig | dict[str, Any]:
    if options.stack:
        return load_stack(options.stack).record
    given = {"url": options.url, "endpoint": options.endpoint, "region": options.region}
    return {name: value for name, value in given.items() if value}


def _write_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _show(record: Record, console: Console, as_json: bool) -> int:
    state = record.state()
    if as_json:
        _write_json(state.model_dump(mode="json"))
        return 0
    console.print(_state_table(state, alive=record.living_holder() is not None))
    return 0


def _part(host: HostState, slot: Slot) -> str:
    if slot is host.active_slot:
        return " (serves)"
    return " (runs)" if slot in host.running else ""


def _maintenance(found: Maintenance) -> str:
    if not found.enabled:
        return "off"
    since = f" since {found.since:{_TIME}}" if found.since else ""
    return f"ON{since}, by {found.by}: {found.message}"


def _release(release: Release) -> str:
    return f"{release.reference}\n{release.git_sha}, {release.deployed_at:{_TIME}}, {release.by}"


def _state_table(state: State, *, alive: bool) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("release", _release(state.release))
    if state.previous_releases:
        former = state.previous_releases[:_FORMER_SHOWN]
        table.add_row("good before", "\n".join(_release(release) for release in former))
    table.add_row("active", f"{state.active_host} in {state.active_region}")
    for name, host in state.hosts.items():
        slots = "\n".join(
            f"{slot}: {digest or 'never used'}{_part(host, slot)}" for slot, digest in host.slots.items()
        )
        table.add_row(name, slots)
    table.add_row(
        "switches", "\n".join(f"{name}: {'on' if on else 'off'}" for name, on in state.switches.items())
    )
    table.add_row("maintenance", _maintenance(state.maintenance))
    if (window := state.maintenance.window) is not None:
        done = f"; done: {', '.join(window.done)}" if window.done else ""
        table.add_row(
            "planned", f"maintenance at {window.at:{_TIME}} UTC, by {window.by}: {window.why}{done}"
        )
    for name, rotation in state.rotations.items():
        table.add_row("rotation", f"{name}: {rotation.phase}, since {rotation.started_at:{_TIME}} UTC")
    lock = "free"
    if state.lock is not None:
        holder = state.lock.holder
        renewed = "is renewed" if alive else f"is over: nobody is at work (take_from={holder.who!r})"
        lock = (
            f"{holder.operation} ({holder.operation_id}) by {holder.who} on {holder.host},"
            f" since {state.lock.acquired_at:{_TIME}}, token {state.lock.token}; {renewed}"
        )
    table.add_row("lease", lock)
    return table


def _events(record: Record, console: Console, as_json: bool, limit: int) -> int:
    newest = list(record.events(after=max(0, record.last_event() - limit)))
    if as_json:
        _write_json([event.model_dump(mode="json", exclude={"state"}) for event in newest])
        return 0
    table = Table()
    for name in ("event", "at (UTC)", "who", "action", "result", "token", "seconds", "digest", "why"):
        table.add_column(name, overflow="fold")
    for event in newest:
        table.add_row(
            str(event.seq),
            f"{event.at:{_TIME}}",
            f"{event.who} on {event.host}",
            event.action,
            event.result,
            str(event.token or ""),
            "" if event.duration is None else f"{event.duration:.1f}",
            (event.digest or "").removeprefix("sha256:")[:12],
            event.why,
        )
    console.print(table)
    return 0


def _history(record: Record, console: Console, options: argparse.Namespace) -> int:
    head = f"{record.last_event()} events"
    if options.verify:
        found = record.verify()
        if not found.ok:
            return _problems(found)
        head = f"{found.events} events, chain complete, head {found.head}"
    shown = [each for each in history.entries(record.events()) if options.all or each.of_interest]
    shown = shown[: options.limit]
    if options.json or options.format == _JSON:
        _write_json([entry.document() for entry in shown])
    elif options.format == _MARKDOWN:
        environment = options.stack or record.store.url
        logs = {_CHANGES: history.change_log, _ROLLBACKS: history.rollback_log}
        wanted = [options.log] if options.log else list(logs)
        sys.stdout.write("\n".join(logs[name](environment, shown, head) for name in wanted))
    else:
        console.print(_history_table(shown))
        console.print(head)
    return 0


def _history_table(shown: Sequence[history.Entry]) -> Table:
    table = Table()
    for name in ("at (UTC)", "operation", "result", "took", "who", "release", "changed", "why"):
        table.add_column(name, overflow="fold")
    for entry in shown:
        table.add_row(f"{entry.began:{_TIME}}", *history.row(entry))
    return table


def _verify(record: Record, console: Console, as_json: bool) -> int:
    found = record.verify()
    if as_json:
        _write_json(
            {
                "ok": found.ok,
                "events": found.events,
                "head": found.head,
                "problems": [vars(problem) for problem in found.problems],
            }
        )
    elif found.ok:
        console.print(f"{found.events} events, chain complete, head {found.head}")
    return _problems(found)


def _problems(found: Verification) -> int:
    for problem in found.problems:
        sys.stderr.write(f"{problem.kind}: {problem.message}\n")
    return 0 if found.ok else 1


def _bootstrap(record: Record, console: Console, as_json: bool) -> int:
    try:
        first = _First.model_validate_json(sys.stdin.read())
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"bootstrap: standard input: {details}") from None
    done = record.bootstrap(
        release=first.release,
        hosts=first.hosts,
        switches=first.switches,
        active_region=first.active_region,
        active_host=first.active_host,
    )
    if as_json:
        _write_json({"bootstrapped": done})
    else:
        console.print("bootstrapped" if done else "was bootstrapped before, nothing changed")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 with the reason on standard error."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        record = open_record(_config(options))
        match options.command:
            case "show":
                return _show(record, console, options.json)
            case "events":
                return _events(record, console, options.json, options.limit)
            case "history":
                return _history(record, console, options)
            case "verify":
                return _verify(record, console, options.json)
            case _:
                return _bootstrap(record, console, options.json)
    except RecordError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
