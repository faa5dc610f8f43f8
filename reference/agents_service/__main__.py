"""Commands of the image: `python -m agents_service <command>`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

import httpx
from sqlalchemy.exc import SQLAlchemyError

from . import logs, smoke, vector_stores
from .auth import TENANT_GROUPS
from .config import (
    EX_CONFIG,
    ConfigurationError,
    MigrationSettings,
    OpenAISettings,
    Settings,
    SupabaseSettings,
    load,
)
from .flags import FlagError, FlagTable
from .migrate import MigrationError, check_schema, migrate, plan
from .server import serve
from .telemetry import Telemetry

EX_FAILED: Final = 1


def _serve(_arguments: argparse.Namespace) -> int:
    from .app import create_app, production_parts  # noqa: PLC0415 - other commands start faster without

    settings = load(Settings)
    telemetry = Telemetry(settings)
    logs.configure(settings.log_level, logs.Redactor(settings.secret_values()), [telemetry.log_processor])
    parts = production_parts(settings, telemetry)
    serve(
        create_app(parts),
        parts.drain,
        host=settings.listen_host,
        port=settings.listen_port,
        grace_seconds=settings.drain_grace_seconds,
        drain_seconds=settings.drain_seconds,
    )
    return 0


def _healthcheck(arguments: argparse.Namespace) -> int:
    try:
        response = httpx.get(arguments.url, timeout=arguments.timeout, trust_env=False)
    except httpx.HTTPError as error:
        print(f"{arguments.url}: {type(error).__name__}", file=sys.stderr)
        return EX_FAILED
    print(response.text)
    return 0 if response.status_code == httpx.codes.OK else EX_FAILED


def _migrate(arguments: argparse.Namespace) -> int:
    settings = load(MigrationSettings)
    print(json.dumps(asdict(plan(settings))) if arguments.plan else migrate(settings))
    return 0


def _check_schema(_arguments: argparse.Namespace) -> int:
    print(check_schema(load(MigrationSettings)))
    return 0


def _check_config(_arguments: argparse.Namespace) -> int:
    load(Settings)
    print("configuration is complete")
    return 0


def _flags(arguments: argparse.Namespace) -> int:
    settings = load(SupabaseSettings)

    async def run() -> None:
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

    asyncio.run(run())
    return 0


def _sync_vector_stores(_arguments: argparse.Namespace) -> int:
    settings = load(OpenAISettings)
    for line in asyncio.run(vector_stores.sync(settings)):
        print(line)
    return 0


def _smoke(_arguments: argparse.Namespace) -> int:
    return smoke.main(load(smoke.SmokeSettings))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    root = argparse.ArgumentParser(prog="agents_service", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_)
        command.set_defaults(run=run)
        return command

    add("serve", _serve, "run the service")
    add("check-config", _check_config, "check the environment of `serve`")
    migration = add(
        "migrate", _migrate, "bring the schema to this release's revision; grant the application its rights"
    )
    migration.add_argument(
        "--plan", action="store_true", help="change nothing, print what would be done as JSON"
    )
    add("check-schema", _check_schema, "check that the schema serves this release")
    add("sync-vector-stores", _sync_vector_stores, "bring the vector stores to this release's documents")
    add("smoke", _smoke, "test a running service from outside")
    health = add("healthcheck", _healthcheck, "ask a health endpoint; 0 where it answers 200")
    health.add_argument("--url", default="http://127.0.0.1:8080/health/ready")
    health.add_argument("--timeout", type=float, default=3.0)
    flags = add("flags", _flags, "list or change feature flags")
    actions = flags.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="show every flag")
    change = actions.add_parser("set", help="turn a flag on or off")
    change.add_argument("key")
    change.add_argument("value", choices=("on", "off"))
    change.add_argument("--group", choices=TENANT_GROUPS, action="append", help="default: every group")
    disable = actions.add_parser("disable", help="turn flags off for every tenant group")
    disable.add_argument("key", nargs="+")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 78 where its configuration is not usable, 1 where it failed."""
    parsed = parser().parse_args(arguments)
    if parsed.command != "serve":
        logs.configure("warning", logs.Redactor())
    try:
        code: int = parsed.run(parsed)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    except (MigrationError, FlagError, vector_stores.SyncError) as error:
        print(f"{parsed.command}: {error}", file=sys.stderr)
        return EX_FAILED
    except SQLAlchemyError as error:
        # str(error) of SQLAlchemy shows statements with their parameters.
        cause = str(getattr(error, "orig", None) or type(error).__name__).strip()
        print(f"{parsed.command}: database: {cause}", file=sys.stderr)
        return EX_FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
