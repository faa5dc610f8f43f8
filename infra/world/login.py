"""The OpenID Connect provider of the local stack: issuer, clients and audiences."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from infra import local

CONFIGURATION_PATH = "/etc/login/settings.json"
SECRETS_PATH = local.SECRETS_PATH
STORAGE_PATH = "/var/lib/login"

ISSUER = f"https://{local.LOGIN.host}"
AUDIENCE = "icupa-agents"
"""`aud` of access tokens for the service's API."""
OTHER_AUDIENCE = "icupa-other"
"""`aud` of tokens that the service must refuse."""
RESOURCE = f"https://{local.DOMAIN}"
"""Resource indicator (RFC 8707) that asks for `AUDIENCE`; the clients below get it without asking."""
OTHER_RESOURCE = f"https://other.{local.ZONE}"
PROXY_CLIENT = "agents"
SMOKE_CLIENT = "smoke"
EXPIRING_CLIENT = "expiring"
"""Client whose tokens are valid for one second."""
TENANT_CLIENTS = {
    group: tuple(f"tenant-{group}-{number}" for number in (1, 2, 3))
    for group in ("internal", "pilot", "full")
}
"""Clients of programs by the tenant group that their tokens name (CFG-3); several, as callers have limits."""
ACCESS_TOKEN_TTL = 600
"""Seconds."""


@dataclass(frozen=True)
class User:
    """Somebody who may log in; the password is in the mounted seed.json under `name`."""

    name: str
    email: str
    groups: tuple[str, ...] = ()


ALICE = User("alice", "alice@icupa.dev", ("ops",))
BOB = User("bob", "bob@icupa.dev")
USERS = (ALICE, BOB)


def redirect_uris() -> list[str]:
    """Where the proxy gets people back: the public name and each region's."""
    hosts = (local.DOMAIN, *(machine.host for machine in local.MACHINES))
    return [f"https://{host}/oauth2/callback" for host in hosts]


def settings() -> dict[str, Any]:
    """Settings of reference/identity.

    In the mounted seed.json, a client's `secret` names one of `client_secrets`, a user's `name` one of
    `passwords`.
    """
    machine_client = {"grant_types": ["client_credentials"], "resources": [RESOURCE, OTHER_RESOURCE]}
    return {
        "issuer": ISSUER,
        "port": local.LOGIN.port,
        "secrets": SECRETS_PATH,
        "state": STORAGE_PATH,
        "users": [{"name": user.name, "email": user.email, "groups": list(user.groups)} for user in USERS],
        "resources": {
            RESOURCE: {"audience": AUDIENCE, "access_token_ttl": ACCESS_TOKEN_TTL},
            OTHER_RESOURCE: {"audience": OTHER_AUDIENCE, "access_token_ttl": ACCESS_TOKEN_TTL},
        },
        "clients": [
            {
                "client_id": PROXY_CLIENT,
                "secret": PROXY_CLIENT,
                "redirect_uris": redirect_uris(),
                "grant_types": ["authorization_code", "refresh_token"],
            },
            {"client_id": SMOKE_CLIENT, "secret": SMOKE_CLIENT, **machine_client},
            {
                "client_id": EXPIRING_CLIENT,
                "secret": SMOKE_CLIENT,
                "access_token_ttl": 1,
                **machine_client,
            },
            *(
                {"client_id": client, "secret": SMOKE_CLIENT, "tenant_group": group, **machine_client}
                for group, names in TENANT_CLIENTS.items()
                for client in names
            ),
        ],
    }


def files() -> dict[str, str]:
    """Every configuration file of the container, path to text."""
    return {CONFIGURATION_PATH: json.dumps(settings(), indent=2) + "\n"}
