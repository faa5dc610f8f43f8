"""`python -m infra.secretstore`: prepare a local stack, and get, set, generate, list or locate secrets."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from infra.paths import is_local
from infra.record import RecordError
from infra.record.stack import load_stack
from infra.secrets.catalogue import CATALOGUE, OURS
from infra.secretstore import SecretConfig, SecretStoreError, open_store, sops
from infra.secretstore.prepare import prepare
from infra.secretstore.store import SopsStore, check_name

_WIDTH = 200
"""Columns where the output is no terminal."""

_DATE = "%Y-%m-%d"


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
    where = commands.add_parser("where", parents=[store], help="which source of a secret wins, and why")
    where.add_argument("name")
    return parser


def _open(options: argparse.Namespace) -> SopsStore:
    if options.url:
        given = {"url": options.url, "endpoint": options.endpoint, "region": options.region}
        return open_store({}, options.stack, record={name: value for name, value in given.items() if value})
    stack = load_stack(options.stack)
    return open_store(SecretConfig.of(stack), options.stack)


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
    entries = _open(options).entries()
    now = datetime.now(UTC)
    rows = [
        {
            "name": secret.name,
            "age_days": (now - entry.created_at).days if (entry := entries.get(secret.name)) else None,
            "by": entry.by if entry else None,
            "issuer": secret.issuer,
            "consumers": list(secret.consumers),
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
        consumers = ", ".join(CATALOGUE[str(row["name"])].consumers)
        table.add_row(str(row["name"]), age, str(row["by"] or ""), str(row["issuer"]), consumers)
    console.print(table)


def _where(options: argparse.Namespace, console: Console) -> None:
    store = _open(options)
    check_name(options.name)
    entry = store.entries().get(options.name)
    state = f"set {entry.created_at:{_DATE}} by {entry.by}" if entry else "not set"
    console.print(f"{options.name}: {store.where} ({state}); the only place of stack {options.stack}")
    winner = next((place for place, identity in sops.identity_sources(options.stack) if identity), None)
    for place, identity in sops.identity_sources(options.stack):
        note = "used" if place == winner else "there, but an earlier one wins" if identity else "none"
        console.print(f"  age identity: {place}: {note}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 with the reason on standard error."""
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
    except (SecretStoreError, RecordError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
