"""Which passwords the databases of a host must accept, and which no more (SEC-2). Pure.

Two roles of PostgreSQL take turns for the service: a password belongs to the one of its side. Redis has as
many passwords as it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from infra.record import Rotation, RotationPhase
from infra.secrets.references import reference, side
from infra.services import names

APP_PASSWORD = "postgres-app-password"  # noqa: S105 - a secret's name
REDIS_PASSWORD = "redis-password"  # noqa: S105 - a secret's name
SUPERUSER = "postgres"
OWN_ROLES = {"postgres-superuser-password": SUPERUSER, "postgres-owner-password": names.DATABASE_OWNER}
"""Roles with one password each, by its secret."""
SECRETS = (APP_PASSWORD, *OWN_ROLES, REDIS_PASSWORD)
_LOGINS = tuple(f"{names.DATABASE_APP}_{each}" for each in "ab")


def login(password: str) -> str:
    """Role that the service logs in as with a password."""
    return f"{names.DATABASE_APP}_{side(password)}"


def shared(rotations: Mapping[str, Rotation], *, ending: bool) -> tuple[str, ...]:
    """Secrets of which another value than the one that hosts are given is valid too, by the journal.

    `ending`: consumers were taken back from what a rotation had given them.
    """
    if ending:
        return ()
    return tuple(
        name for name, found in rotations.items() if name in SECRETS and found.phase != RotationPhase.REVOKED
    )


def needed(project: Mapping[str, Any]) -> tuple[str, ...]:
    """Secrets that the databases of a rendered project have; none where somebody else runs them."""
    services = project.get("compose", {}).get("services", {})
    postgres = (APP_PASSWORD, *OWN_ROLES) if names.POSTGRES in services else ()
    return (*postgres, *((REDIS_PASSWORD,) if names.REDIS in services else ()))


def passwords(
    project: Mapping[str, Any],
    resolve: Callable[[str], str],
    known: Mapping[str, Iterable[str]],
    keep: Iterable[str] | None,
) -> dict[str, Any]:
    """Arguments of the module `database_passwords` for a rendered project; empty where it has no database.

    `resolve` gives the values that hosts are to be given, `known` all that may be valid. `keep` are secrets
    that keep other values than these; None: all do.
    """
    services = project.get("compose", {}).get("services", {})
    kept = set(SECRETS if keep is None else keep)
    found: dict[str, Any] = {}
    if names.POSTGRES in services:
        app = resolve(reference(APP_PASSWORD))
        mine = login(app)
        others = [] if APP_PASSWORD in kept else [*(each for each in _LOGINS if each != mine)]
        found[names.POSTGRES] = {
            "service": names.POSTGRES,
            "superuser": SUPERUSER,
            "roles": [
                {"name": mine, "password": app, "member_of": names.DATABASE_APP},
                *({"name": role, "password": resolve(reference(name))} for name, role in OWN_ROLES.items()),
            ],
            # The service logged in as the role that its logins are now members of.
            "retired": [*others, names.DATABASE_APP] if others else [],
        }
    if names.REDIS in services:
        found[names.REDIS] = {
            "service": names.REDIS,
            "password": resolve(reference(REDIS_PASSWORD)),
            "known": list(known.get(REDIS_PASSWORD, ())),
            "alone": REDIS_PASSWORD not in kept,
        }
    return found
