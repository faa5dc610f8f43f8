"""The registry of the local stack."""

from __future__ import annotations

import yaml

from infra import local

CONFIGURATION_PATH = "/etc/docker/registry/config.yml"
SECRETS_PATH = local.SECRETS_PATH
STORAGE_PATH = "/var/lib/registry"


def configuration() -> str:
    """Text of the registry's configuration: TLS, basic authentication, deletion allowed."""
    return yaml.safe_dump(
        {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": STORAGE_PATH},
                "delete": {"enabled": True},
            },
            "http": {
                "addr": f"0.0.0.0:{local.REGISTRY.port}",
                # Signers reach it by its address where its name does not resolve.
                "relativeurls": True,
                "tls": {"certificate": f"{SECRETS_PATH}/tls.crt", "key": f"{SECRETS_PATH}/tls.key"},
            },
            "auth": {"htpasswd": {"realm": local.REGISTRY.host, "path": f"{SECRETS_PATH}/htpasswd"}},
        },
        sort_keys=False,
    )


def files() -> dict[str, str]:
    """Every configuration file of the container, path to text."""
    return {CONFIGURATION_PATH: configuration()}
