"""`python -m infra.secretstore`: prepare a local stack; get, set, generate, list, find secrets, see ages."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum

from rich.console import Console
from rich.table import Table

from infra.config.model import Stack
from infra.paths import is_local
from infra.record import RecordError
from infra.record.stack import load_stack
from infra.secrets.catalogue import CATALOGUE, OURS
from infra.secretstore import SecretConfig, SecretStoreError, open_store, sops
from infra.secretstore.ages import Age, ages, missing, moment
from infra.secretstore.consumers import consumers
from infra.secretstore.prepare import prepare
from infra.secretstore.store import SopsStore, check_name

_WIDTH = 200
"""Columns where the output is no terminal."""

_DATE = "%Y-%m-%d"
_LABEL = 10


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    OVERDUE = 3
    """`ages`: a secret should have been replaced; 2 is that of wrong arguments."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.secretstore", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--stack", required=True, help="name of the stack")
    store = argparse.ArgumentParser(add_help=False, parents=[common])
    store.add_argument("--url", help="store of the record, where it is not the stack file's")
    store.add_argument("--endpoint", help="with --url: endpoint of an S3-compatible store")
    store.add_argument("--region", help="with --url: region of an S3 store")
    commands.add_parser(
        "prepare", parents=[common], help="make all secrets and mounted files of a local stack"
    )
    get = commands.add_parser("get", parents=[store], help="tell whether a secret is set")
    get.add_argument("name")
    get.add_argument("--reveal", action="store_true", help="print the value")
    change = commands.add_parser("set", parents=[store], help="set a secret to what standard input holds")
    change.add_argument("name")
    commands.add_parser(
        "generate", parents=[store], help="make those that we issue ourselves and that have no value yet"
    )
    listing = commands.add_parser("list", parents=[store], help="names, ages and consumers, never values")
    listing.add_argument("--json", action="store_true")
    where = commands.add_parser(
        "where", parents=[store], help="which source of a secret wins and why, its age, who reads it"
    )
    where.add_argument("name")
    old = commands.add_parser(
        "ages",
        parents=[store],
        help=f"ages against periods; exits with {ExitCode.OVERDUE:d} where a secret is overdue",
    )
    old.add_argument("--json", action="store_true")
    old.add_argument("--at", help="as of this moment: 2027-03-01T00:00Z; now if not given")
    return parser


def _open(options: argparse.Namespace) -> SopsStore:
    stack = _stack(options)
    if stack is None:
        given = {"url": options.url, "endpoint": options.endpoint, "region": options.region}
        return open_store({}, options.stack, record={name: value for name, value in given.items() if value})
    return open_store(SecretConfig.of(stack), options.stack)


def _stack(options: argparse.Namespace) -> Stack | None:
    """The stack's file, unless `--url` stands in for it."""
    return None if options.url else load_stack(options.stack)


def _prepare(stack: str, console: Console) -> None:
    done = prepare(stack)
    if not done.changed:
        console.print(f"secrets of {stack}: complete, nothing to do")
        return
    console.print(
        f"secrets of {stack}: {len(done.secrets)} generated, {len(done.certificates)} certificates issued,"
        f" {len(done.files)} files written" + (", new age identity" if done.identity else "")
    )


def _get(options: argparse.Namespace, console: Console) -> None:
    store = _open(options)
    if options.reveal:
        sys.stdout.write(store.get(options.name))
        return
    check_name(options.name)
    entry = store.entries().get(options.name)
    if entry is None:
        store.get(options.name)
    else:
        console.print(
            f"{entry.name}: set {entry.created_at:{_DATE}} by {entry.by} (--reveal prints the value)"
        )


def _set(options: argparse.Namespace, console: Console) -> None:
    check_name(options.name)
    if sys.stdin.isatty():
        value = getpass.getpass(f"value of {options.name}: ")
    else:
        value = sys.stdin.read()
        # A line from echo or an editor; keys in PEM keep theirs.
        if value.count("\n") == 1:
            value = value.rstrip("\n")
    store = _open(options)
    store.put(options.name, value, by=getpass.getuser())
    console.print(f"{options.name} is set in {store.where}")


def _generate(options: argparse.Namespace, console: Console) -> None:
    ours = {
        secret.name: secret.generate
        for secret in CATALOGUE.values()
        if secret.issuer == OURS and not secret.local
    }
    store = _open(options)
    made = store.put_absent(ours, by=getpass.getuser())
    console.print(f"{store.where}: generated {', '.join(made) or 'nothing, all have values'}")


def _list(options: argparse.Namespace, console: Console) -> None:
    entries, stack = _open(options).entries(), _stack(options)
    now = datetime.now(UTC)
    rows = [
        {
            "name": secret.name,
            "age_days": (now - entry.created_at).days if (entry := entries.get(secret.name)) else None,
            "by": entry.by if entry else None,
            "issuer": secret.issuer,
            "consumers": consumers(secret.name, stack),
        }
        for secret in CATALOGUE.values()
        if not secret.local or is_local(options.stack)
    ]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("secret", "age", "set by", "issued by", "consumers")
    for row in rows:
        age = "missing" if row["age_days"] is None else f"{row['age_days']} d"
        table.add_row(
            str(row["name"]),
            age,
            str(row["by"] or ""),
            str(row["issuer"]),
            "; ".join(consumers(str(row["name"]), stack)),
        )
    console.print(table)


def _where(options: argparse.Namespace, console: Console) -> None:
    check_name(options.name)
    store, stack = _open(options), _stack(options)
    entry, secret = store.entries().get(options.name), CATALOGUE[options.name]
    named = f"icupa:record.url of the stack file of {options.stack}" if stack else "--url"
    rotation = secret.rotation
    if entry is None:
        told = [
            ("set", f"not set: python -m infra.secretstore set {secret.name} --stack {options.stack} < FILE")
        ]
    else:
        age = Age(entry, datetime.now(UTC))
        told = [("set", f"{entry.created_at:{_DATE}} by {entry.by}, {age.days} d ago"), ("due", _due(age))]
        told += [("rotation", "another value is staged")] if entry.next else []
        told += (
            [("rotation", "the value before it is not forgotten yet")] if entry.previous is not None else []
        )
    overlap = "yes" if rotation.overlap.possible else "no"
    facts = [
        ("source", f"{store.where}: wins, because {named} names it and nothing else is asked"),
        *told,
        ("period", rotation.period + (f": {rotation.reason}" if rotation.reason else "")),
        ("owner", rotation.owner),
        ("issuer", f"{secret.issuer} (driver {rotation.driver})"),
        *(("read by", consumer) for consumer in consumers(secret.name, stack)),
        ("revoked", rotation.revoked),
        ("two valid", f"{overlap}: {rotation.overlap.how}"),
    ]
    console.print(f"{secret.name}: {secret.what}")
    for label, text in facts:
        console.print(f"  {label:<{_LABEL}}{text}", soft_wrap=True)
    winner = next((place for place, identity in sops.identity_sources(options.stack) if identity), None)
    for place, identity in sops.identity_sources(options.stack):
        note = "used" if place == winner else "there, but an earlier one wins" if identity else "none"
        console.print(f"  age identity: {place}: {note}", soft_wrap=True)


def _due(age: Age) -> str:
    if age.due is None:
        return "never by age"
    return f"{age.due:{_DATE}}" + (", OVERDUE" if age.overdue else "")


def _ages(options: argparse.Namespace, console: Console) -> ExitCode:
    entries, at = _open(options).entries(), moment(options.at)
    found, absent = ages(entries, at), missing(entries, options.stack)
    overdue = [age.name for age in found if age.overdue]
    if options.json:
        shown = {
            "at": at.isoformat(timespec="seconds"),
            "overdue": overdue,
            "secrets": [age.as_json() for age in found],
            "not_set": absent,
        }
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        table = Table("secret", "age", "set by", "period", "due", "owner")
        for age in found:
            rotation = CATALOGUE[age.name].rotation
            table.add_row(age.name, f"{age.days} d", age.entry.by, rotation.period, _due(age), rotation.owner)
        console.print(table)
        console.print(f"not set: {', '.join(absent) or 'none'}", soft_wrap=True)
        console.print(f"overdue: {', '.join(overdue) or 'none'}", soft_wrap=True)
    return ExitCode.OVERDUE if overdue else ExitCode.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code, with the reason of 1 on standard error."""
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        match options.command:
            case "prepare":
                _prepare(options.stack, console)
            case "get":
                _get(options, console)
            case "set":
                _set(options, console)
            case "generate":
                _generate(options, console)
            case "list":
                _list(options, console)
            case "where":
                _where(options, console)
            case "ages":
                return _ages(options, console)
    except (SecretStoreError, RecordError) as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.FAILED
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
