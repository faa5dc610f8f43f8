"""The service itself, in two slots, and the job that migrates its database first (DEP-4)."""

from __future__ import annotations

from infra.secrets.references import reference, side_of
from infra.services import names
from infra.services.context import Context
from infra.services.model import (
    Condition,
    Dependency,
    Directory,
    EnvironmentFile,
    File,
    Health,
    HttpProbe,
    Network,
    Port,
    Probe,
    Resources,
    Scratch,
    Service,
    Slot,
)

ENVIRONMENT_FILE = "agents-service.env"
SLOTS = (Slot.BLUE, Slot.GREEN)
DRAIN_GRACE_SECONDS = 4
"""How long readiness fails while requests are still served, for whoever sends them here and looks at it."""
DRAIN_SECONDS = 30
"""The most that a stop takes, grace included."""
SWITCHES_DIRECTORY = "switches"
"""Directory with the file of switches that wins over the environment; runtime state, may be empty."""
_SWITCHES_NAME = "switches.env"
SWITCHES_FILE = f"{SWITCHES_DIRECTORY}/{_SWITCHES_NAME}"
"""Path on the host, below the project's directory."""
METRICS_PATH = "/metrics"
METRICS_TOKEN = "metrics-token"  # noqa: S105 - a secret's name
SWITCH_METRIC = "agents_switch_enabled"
"""Metric, by label `switch`, with which the service shows what is in effect."""
_SWITCHES_PATH = "/run/switches"
_OWNER_PASSWORD = "postgres-owner-password"  # noqa: S105 - a secret's name
_APP_PASSWORD = "postgres-app-password"  # noqa: S105 - a secret's name
STOP_SECONDS = DRAIN_SECONDS + 10


def slot_name(slot: Slot) -> str:
    """Name of a slot's service, on the network too."""
    return f"{names.AGENTS}-{slot}"


def image_variable(slot: Slot) -> str:
    """Variable of `.env` with a slot's image: runtime state."""
    return f"AGENTS_IMAGE_{slot.upper()}"


def _probe(path: str, interval: float, failures: int) -> Probe:
    return Probe(HttpProbe(path, names.AGENTS_PORT), interval, 3, failures)


def environment(context: Context) -> EnvironmentFile:
    """Every variable of CFG-1 for this region, and those that only this deployment needs."""
    login = context.stack.login
    values = {name: str(value) for name, value in context.variables.model_dump(mode="json").items()}
    del values["OTLP_EXPORTER_ENDPOINT"], values["OTLP_EXPORTER_HEADERS"]
    if not values["OTEL_EXPORTER_OTLP_HEADERS"]:
        del values["OTEL_EXPORTER_OTLP_HEADERS"]
    values |= {
        "ENVIRONMENT": context.environment,
        "REGION": context.region,
        "LISTEN_PORT": str(names.AGENTS_PORT),
        "OIDC_ISSUER": login.issuer,
        "OIDC_AUDIENCE": ",".join(dict.fromkeys((login.client_id, *login.audiences))),
        **_database(context, f"{names.DATABASE_APP}_{side_of(_APP_PASSWORD)}"),
        "DATABASE_PASSWORD": reference(_APP_PASSWORD),
        "REDIS_URL": _redis_url(context),
        "METRICS_TOKEN": reference(METRICS_TOKEN),
        "SWITCHES_FILE": f"{_SWITCHES_PATH}/{_SWITCHES_NAME}",
        "DRAIN_GRACE_SECONDS": str(DRAIN_GRACE_SECONDS),
        "DRAIN_SECONDS": str(DRAIN_SECONDS),
    }
    if context.trust_path:
        values |= {"SSL_CERT_FILE": context.trust_path, "OIDC_CA_FILE": context.trust_path}
    return EnvironmentFile(ENVIRONMENT_FILE, values, tuple(type(context.stack.switches).model_fields))


def _database(context: Context, user: str) -> dict[str, str]:
    """Where the database is, and `user` there; how libpq checks it where it is somebody else's, users too."""
    managed = context.platform.managed
    if managed is None:
        return {
            "DATABASE_HOST": names.POSTGRES,
            "DATABASE_PORT": str(names.POSTGRES_PORT),
            "DATABASE_NAME": names.DATABASE,
            "DATABASE_USER": user,
        }
    database = managed.database
    return {
        "DATABASE_HOST": database.host,
        "DATABASE_PORT": str(database.port),
        "DATABASE_NAME": database.name,
        "DATABASE_USER": database.user,
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": context.trust_path or "system",
    }


def _redis_url(context: Context) -> str:
    managed = context.platform.managed
    password = reference("redis-password")
    if managed is None:
        return f"redis://:{password}@{names.REDIS}:{names.REDIS_PORT}/0"
    return f"rediss://:{password}@{managed.redis.host}:{managed.redis.port}/0"


def _dependencies(context: Context, *own: Dependency) -> tuple[Dependency, ...]:
    """Without the databases where somebody else runs them."""
    outside = {names.POSTGRES, names.REDIS} if context.platform.managed else set()
    return tuple(dependency for dependency in own if dependency.service not in outside)


def service(context: Context) -> Service:
    """The server; which slot runs, and which image, is runtime state."""
    return Service(
        name=names.AGENTS,
        image=names.AGENTS_IMAGE,
        uid=names.USERS[names.AGENTS],
        slots=SLOTS,
        networks=(Network.EDGE, Network.DATA, Network.TELEMETRY),
        environment_files=(environment(context),),
        files=context.trust,
        directories=(Directory(SWITCHES_DIRECTORY, _SWITCHES_PATH),),
        scratch=(Scratch("/tmp", 64),),  # noqa: S108 - a memory-backed directory of the container's own
        ports=(Port("http", names.AGENTS_PORT),),
        health=Health(
            startup=_probe("/health", 0.5, 120),
            readiness=_probe("/health/ready", 2, 2),
            liveness=_probe("/health", 10, 3),
        ),
        dependencies=_dependencies(
            context,
            Dependency(names.MIGRATE, Condition.COMPLETED),
            Dependency(names.POSTGRES),
            Dependency(names.REDIS),
            Dependency(names.OTEL_COLLECTOR, Condition.STARTED),
        ),
        resources=Resources(cpus=1.5, memory_mib=1024, pids=256, reserved_memory_mib=256, reserved_cpus=0.25),
        stop_seconds=STOP_SECONDS,
        replicated=True,
    )


def migrations(context: Context) -> Service:
    """Migrates the schema with the code of the same slot's image, as the owner of the schema."""
    managed = context.platform.managed
    return Service(
        name=names.MIGRATE,
        image=names.AGENTS_IMAGE,
        uid=names.USERS[names.AGENTS],
        slots=SLOTS,
        job=True,
        command=context.stack.commands.migrate,
        check=context.stack.commands.check_schema,
        networks=(Network.EGRESS if managed else Network.DATA,),
        environment={
            **_database(context, names.DATABASE_APP),
            "DATABASE_OWNER_USER": managed.database.owner if managed else names.DATABASE_OWNER,
            "DATABASE_OWNER_PASSWORD_FILE": f"{names.SECRETS_PATH}/{_OWNER_PASSWORD}",
        },
        files=(
            File(
                f"secrets/migrate/{_OWNER_PASSWORD}",
                f"{names.SECRETS_PATH}/{_OWNER_PASSWORD}",
                reference(_OWNER_PASSWORD),
                secret=True,
            ),
            *(context.trust if managed else ()),
        ),
        scratch=(Scratch("/tmp", 16),),  # noqa: S108 - a memory-backed directory of the container's own
        dependencies=_dependencies(context, Dependency(names.POSTGRES)),
        resources=Resources(cpus=1, memory_mib=512, pids=64),
    )
