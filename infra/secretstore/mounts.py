"""Files that containers and machines of a local stack mount: who gets which secret, where, with what mode.

`files/<consumer>/` of a local stack (docs/architecture.md) is made of this table by
`python -m infra.secretstore prepare`. A new file is a new line here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import bcrypt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra import local, paths
from infra.secrets import catalogue

REGISTRY_USER = "icupa"
"""User who may push to the local registry."""

LOGIN_USERS = ("alice", "bob")
"""Test users of the local identity provider; their passwords are the secrets `login-password-<name>`."""

_BCRYPT_COST = 4
"""The least that there is: a costly hash protects a password that can be guessed, and the registry's is drawn
at random. Every request pays for it, on the machine that serves the load.
"""

OPERATOR = "operator"
WORLD = "world"
DOCKER = "docker"

CERTIFICATE = "tls.crt"
KEY = "tls.key"
AUTHORITY = "ca.pem"


class Source(Protocol):
    """What a file is rendered from."""

    def secret(self, name: str) -> str:
        """Value of a secret."""
        ...

    def public(self, name: str) -> str:
        """Text of a public object."""
        ...


Render = Callable[[Source], str]


@dataclass(frozen=True)
class Mount:
    """One file of a consumer.

    `uid` owns the file and the consumer's directory (None: who prepares, root for a container's root).
    `keep` says whether a file that is there already still serves, where rendering it again would differ.
    """

    consumer: str
    name: str
    render: Render
    mode: int = 0o600
    uid: int | None = None
    keep: Callable[[str, Source], bool] | None = None

    def path(self, stack: str) -> Path:
        """Where the file is."""
        return directory(stack, self.consumer) / self.name


def directory(stack: str, consumer: str) -> Path:
    """Directory of a consumer's files."""
    return paths.docker_config(stack) if consumer == DOCKER else paths.mounted_files(stack, consumer)


def _secret(name: str) -> Render:
    return lambda source: source.secret(name)


def _public(name: str) -> Render:
    return lambda source: source.public(name)


def _json(document: object) -> str:
    return json.dumps(document, indent=2) + "\n"


def _tsig(source: Source) -> str:
    keys = ("failover", "acme")
    lines = [
        f"  - id: {key}\n    algorithm: hmac-sha256\n    secret: {source.secret(f'tsig-{key}')}"
        for key in keys
    ]
    return "\n".join(("key:", *lines, ""))


def _htpasswd(source: Source) -> str:
    hashed = bcrypt.hashpw(source.secret("registry-password").encode(), bcrypt.gensalt(_BCRYPT_COST))
    return f"{REGISTRY_USER}:{hashed.decode()}\n"


def _htpasswd_serves(text: str, source: Source) -> bool:
    user, _, hashed = text.strip().partition(":")
    if user != REGISTRY_USER or not hashed.startswith(f"$2b${_BCRYPT_COST:02}$"):
        return False
    try:
        return bcrypt.checkpw(source.secret("registry-password").encode(), hashed.encode())
    except ValueError:
        return False


def _docker_config(source: Source) -> str:
    login = f"{REGISTRY_USER}:{source.secret('registry-password')}".encode()
    return _json({"auths": {local.REGISTRY.host: {"auth": base64.b64encode(login).decode()}}})


def _login_seed(source: Source) -> str:
    return _json(
        {
            "client_secrets": {
                "agents": source.secret("oauth-client-secret"),
                "smoke": source.secret("login-smoke-secret"),
            },
            "passwords": {user: source.secret(f"login-password-{user}") for user in LOGIN_USERS},
            "cookie_keys": [source.secret("login-cookie-key")],
            "jwks": {"keys": [_jwk(source.secret("login-signing-key"))]},
        }
    )


def _jwk(pem: str) -> dict[str, str]:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("login-signing-key must be an RSA key")
    private = key.private_numbers()
    numbers = {
        "n": private.public_numbers.n,
        "e": private.public_numbers.e,
        "d": private.d,
        "p": private.p,
        "q": private.q,
        "dp": private.dmp1,
        "dq": private.dmq1,
        "qi": private.iqmp,
    }
    encoded = {
        name: base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))
        .decode()
        .rstrip("=")
        for name, number in numbers.items()
    }
    return {"kty": "RSA", "use": "sig", "alg": "RS256", **encoded}


def _vendors_seed(source: Source) -> str:
    return _json(
        {
            "openai": {
                "api_keys": [source.secret("openai-api-key")],
                "admin_keys": [source.secret("openai-admin-key")],
            },
            "supabase": {
                "service_role_keys": [source.secret("supabase-service-role-key")],
                "management_tokens": [source.secret("supabase-management-token")],
            },
            "vercel": {"tokens": [source.secret("vercel-token")]},
            "slack": {"tokens": [source.secret("slack-token")], "webhooks": _slack_webhooks(source)},
            "pagerduty": {
                "routing_keys": [source.secret("pagerduty-token")],
                "tokens": [source.secret("pagerduty-api-token")],
            },
            "statuspage": {"tokens": [source.secret("statuspage-token")]},
        }
    )


def _slack_webhooks(source: Source) -> dict[str, str]:
    """Channel of each webhook by the secret end of its URL."""
    urls = {channel: source.secret(catalogue.slack_webhook(channel)) for channel in catalogue.Channel}
    return {url.rpartition("/services/")[2]: channel for channel, url in urls.items()}


def _tls(party: str) -> tuple[Mount, ...]:
    return (
        Mount(party, CERTIFICATE, _public(catalogue.tls_certificate(party)), 0o644),
        Mount(party, KEY, _secret(catalogue.tls_key(party))),
        Mount(party, AUTHORITY, _public(catalogue.WORLD_CA_CERTIFICATE), 0o644),
    )


def _machine(name: str) -> tuple[Mount, ...]:
    return (
        Mount(name, "ssh_host_ed25519_key", _secret(catalogue.ssh_host_key(name))),
        Mount(name, "ssh_host_ed25519_key.pub", _public(catalogue.ssh_host_public_key(name)), 0o644),
        Mount(name, "authorized_keys", _public(catalogue.OPERATOR_PUBLIC_KEY), 0o644),
    )


MOUNTS: tuple[Mount, ...] = (
    *(mount for party in catalogue.TLS_PARTIES for mount in _tls(party.name)),
    *(mount for machine in local.MACHINES for mount in _machine(machine.name)),
    Mount(local.ACME.name, AUTHORITY, _public(catalogue.WORLD_CA_CERTIFICATE), 0o644),
    Mount(local.ACME.name, "intermediate.crt", _public(catalogue.ACME_CERTIFICATE), 0o644),
    Mount(local.ACME.name, "intermediate.key", _secret(catalogue.ACME_KEY)),
    Mount(local.NAMESERVER.name, "tsig.conf", _tsig),
    Mount(local.REGISTRY.name, "htpasswd", _htpasswd, keep=_htpasswd_serves),
    Mount(local.LOGIN.name, "seed.json", _login_seed),
    Mount(local.VENDORS.name, "seed.json", _vendors_seed),
    Mount(local.TRACES.name, "token", _secret("otlp-token")),
    Mount(WORLD, AUTHORITY, _public(catalogue.WORLD_CA_CERTIFICATE), 0o644),
    Mount(OPERATOR, "id_ed25519", _secret("operator-ssh-key")),
    Mount(OPERATOR, "id_ed25519.pub", _public(catalogue.OPERATOR_PUBLIC_KEY), 0o644),
    Mount(DOCKER, "config.json", _docker_config),
)
"""Every file; paths are relative to the consumer's directory."""
