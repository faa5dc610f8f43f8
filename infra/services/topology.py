"""All services of one host or cluster."""

from __future__ import annotations

from infra.services import (
    agents,
    maintenance,
    names,
    oauth2_proxy,
    otel_collector,
    postgres,
    prometheus,
    redis,
    traefik,
)
from infra.services.context import Context
from infra.services.model import EnvironmentFile, Topology
from infra.services.platform import Routing

PROJECT_FILE = ".env"


def topology(context: Context) -> Topology:
    """Services of a host or cluster, whatever runs them."""
    platform = context.platform
    return Topology(
        services=(
            *(() if platform.routing is Routing.FOREIGN else (traefik.service(context),)),
            oauth2_proxy.service(context),
            agents.service(context),
            agents.migrations(context),
            otel_collector.service(context),
            *(() if platform.managed else (postgres.service(context), redis.service(context))),
            prometheus.service(context),
            maintenance.service(context),
        ),
        project_file=EnvironmentFile(
            PROJECT_FILE,
            otel_collector.project_environment(context),
            tuple(agents.image_variable(slot) for slot in agents.SLOTS),
        ),
        files=traefik.dynamic_files(context) if platform.routing is Routing.FILES else (),
        edge_subnet=str(names.EDGE_SUBNET),
        edge_gateway=str(names.EDGE_GATEWAY),
        edge_pool=str(names.EDGE_POOL),
    )
