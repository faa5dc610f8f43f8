"""step-ca, the ACME server of the local stack.

Its certificates come from an intermediate of the world's CA, and so does that of its own API: who trusts the
world's CA needs no second root. Accounts, orders and the intermediate survive a restart, as they do at Let's
Encrypt: a proxy that renews after the server was killed still has its account.
"""

from __future__ import annotations

import json
from typing import Any

from infra import local

CONFIGURATION_PATH = "/etc/step-ca/ca.json"
SECRETS_PATH = local.SECRETS_PATH
STORAGE_PATH = "/var/lib/acme"
LIFETIME = "2160h"
"""How long a certificate is valid, as at Let's Encrypt."""
_LONGEST = "2160h"
_SHORTEST = "5m"


def configuration(lifetime: str = LIFETIME) -> dict[str, Any]:
    """Configuration of step-ca: one ACME provisioner, DNS-01 only; certificates are valid for `lifetime`."""
    return {
        "root": f"{SECRETS_PATH}/ca.pem",
        "crt": f"{SECRETS_PATH}/intermediate.crt",
        "key": f"{SECRETS_PATH}/intermediate.key",
        "address": f":{local.ACME.port}",
        "dnsNames": [local.ACME.host],
        "logger": {"format": "json"},
        "db": {"type": "bbolt", "dataSource": f"{STORAGE_PATH}/acme.db"},
        "authority": {
            "provisioners": [
                {
                    "type": "ACME",
                    "name": local.ACME_PROVISIONER,
                    "challenges": ["dns-01"],
                    "claims": {
                        "minTLSCertDuration": _SHORTEST,
                        "maxTLSCertDuration": _LONGEST,
                        "defaultTLSCertDuration": lifetime,
                    },
                }
            ]
        },
        "tls": {"minVersion": 1.2, "maxVersion": 1.3},
    }


def files() -> dict[str, str]:
    """Every configuration file of the container, path to text."""
    return {CONFIGURATION_PATH: json.dumps(configuration(), indent=2) + "\n"}


def command() -> list[str]:
    """Arguments of step-ca: its configuration, and the resolver that it validates through."""
    resolver = f"{local.RESOLVER.address}:{local.RESOLVER.port}"
    return [CONFIGURATION_PATH, "--resolver", resolver]
