"""PostgreSQL of the service: tables of its own, not Supabase's (DB-1)."""

from __future__ import annotations

from infra.secrets.references import reference
from infra.services import names
from infra.services.context import Context
from infra.services.model import (
    CommandProbe,
    File,
    Health,
    Network,
    Port,
    Probe,
    Resources,
    Scratch,
    Service,
    Volume,
)


def _password(name: str) -> File:
    path = f"{names.SECRETS_PATH}/{name}"
    return File(f"secrets/postgres/{name}", path, reference(name), secret=True, live=True)


def service(context: Context) -> Service:
    """The database server; passwords of its roles are files, and roles are given them while it runs.

    The service logs in as one of two that take turns, the side of its password saying which, so that
    an old and a new one can be valid at once.
    """
    del context
    ready = CommandProbe(
        (
            "pg_isready",
            "--quiet",
            "--host=127.0.0.1",
            f"--username={names.DATABASE_APP}",
            f"--dbname={names.DATABASE}",
        )
    )
    return Service(
        name=names.POSTGRES,
        image=names.POSTGRES,
        uid=names.USERS[names.POSTGRES],
        networks=(Network.DATA,),
        environment={
            "POSTGRES_DATABASE": names.DATABASE,
            "POSTGRES_OWNER": names.DATABASE_OWNER,
            "POSTGRES_APP": names.DATABASE_APP,
        },
        files=(
            _password("postgres-superuser-password"),
            _password("postgres-owner-password"),
            _password("postgres-app-password"),
        ),
        volumes=(Volume("postgres", "/var/lib/postgresql/data"),),
        scratch=(Scratch("/run/postgresql"), Scratch("/tmp", 64)),  # noqa: S108 - the container's own
        ports=(Port("postgres", names.POSTGRES_PORT),),
        health=Health(startup=Probe(ready, 1, 3, 60), readiness=Probe(ready, 10, 3, 3)),
        resources=Resources(cpus=1.5, memory_mib=768, pids=256, reserved_memory_mib=256),
        stop_seconds=60,
    )
