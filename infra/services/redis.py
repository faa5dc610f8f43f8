"""Redis of the service: counters and short-lived state."""

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
    Service,
    Volume,
)

_PASSWORD = "redis-password"  # noqa: S105 - a secret's name


def service(context: Context) -> Service:
    """The server; its password is a file, and it is given another one while it runs."""
    del context
    password = f"{names.SECRETS_PATH}/{_PASSWORD}"
    ping = CommandProbe(
        ("/bin/bash", "-euc", f'[ "$(REDISCLI_AUTH=$(<{password}) redis-cli -h 127.0.0.1 ping)" = PONG ]')
    )
    return Service(
        name=names.REDIS,
        image=names.REDIS,
        uid=names.USERS[names.REDIS],
        networks=(Network.DATA,),
        files=(File(f"secrets/redis/{_PASSWORD}", password, reference(_PASSWORD), secret=True, live=True),),
        volumes=(Volume("redis", "/var/lib/redis"),),
        ports=(Port("redis", names.REDIS_PORT),),
        health=Health(startup=Probe(ping, 1, 3, 30), readiness=Probe(ping, 10, 3, 3)),
        resources=Resources(cpus=0.5, memory_mib=256, pids=64),
        stop_seconds=20,
    )
