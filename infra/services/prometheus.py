"""Metrics of everything on a host, kept for two weeks (OBS-2)."""

from __future__ import annotations

from typing import Any

import yaml

from infra.secrets.references import reference
from infra.services import names
from infra.services.context import Context
from infra.services.model import (
    File,
    Health,
    HttpProbe,
    Network,
    Port,
    Probe,
    Resources,
    Service,
    Volume,
)
from infra.services.platform import HOST, Routing

_CONFIGURATION_PATH = "/etc/prometheus/prometheus.yml"
_STORAGE = "/var/lib/prometheus"
_TOKEN = "metrics-token"  # noqa: S105 - a secret's name


def service(context: Context) -> Service:
    """The server, published on the loopback address only."""
    port = names.PROMETHEUS_PORT
    return Service(
        name=names.PROMETHEUS,
        image=names.PROMETHEUS,
        uid=names.USERS[names.PROMETHEUS],
        networks=(Network.TELEMETRY, Network.EGRESS),
        calls=(names.AGENTS, names.TRAEFIK, names.OAUTH2_PROXY, names.OTEL_COLLECTOR),
        command=(
            f"--config.file={_CONFIGURATION_PATH}",
            f"--storage.tsdb.path={_STORAGE}",
            "--storage.tsdb.retention.time=15d",
            f"--web.listen-address=0.0.0.0:{port}",
        ),
        files=(
            File("prometheus/prometheus.yml", _CONFIGURATION_PATH, _yaml(context)),
            File(
                f"secrets/prometheus/{_TOKEN}",
                f"{names.SECRETS_PATH}/{_TOKEN}",
                reference(_TOKEN),
                secret=True,
            ),
        ),
        volumes=(Volume("prometheus", _STORAGE),),
        ports=(Port("http", port, published=port, host_address="127.0.0.1"),),
        health=Health(
            startup=Probe(HttpProbe("/-/ready", port), 1, 3, 60),
            readiness=Probe(HttpProbe("/-/ready", port), 10, 3, 3),
            liveness=Probe(HttpProbe("/-/healthy", port), 10, 3, 3),
        ),
        resources=Resources(cpus=0.5, memory_mib=384, pids=128, reserved_memory_mib=64),
        stop_seconds=30,
    )


def configuration(context: Context) -> dict[str, Any]:
    """Prometheus's configuration; the slots share a name, so that only running ones are asked."""

    def static(job: str, port: int) -> dict[str, Any]:
        return {
            "job_name": job,
            "static_configs": [{"targets": [f"{context.platform.address(job)}:{port}"]}],
        }

    def resolved(service: str, port: int) -> list[dict[str, Any]]:
        name = context.platform.replicas(service)
        return [{"names": [name], "type": "A", "port": port, "refresh_interval": "5s"}]

    def replicated(job: str, port: int) -> dict[str, Any]:
        if context.platform is HOST:
            return static(job, port)
        return {"job_name": job, "dns_sd_configs": resolved(job, port)}

    return {
        "global": {
            "scrape_interval": f"{context.stack.metrics.scrape_seconds}s",
            "scrape_timeout": f"{min(5, context.stack.metrics.scrape_seconds)}s",
            "external_labels": {"environment": context.environment, "region": context.region},
        },
        "scrape_configs": [
            {
                "job_name": names.AGENTS_IMAGE,
                "authorization": {"credentials_file": f"{names.SECRETS_PATH}/{_TOKEN}"},
                "dns_sd_configs": resolved(names.AGENTS, names.AGENTS_PORT),
            },
            *(
                replicated(job, port)
                for job, port in (
                    (names.TRAEFIK, names.TRAEFIK_INTERNAL_PORT),
                    (names.OAUTH2_PROXY, names.OAUTH2_PROXY_METRICS_PORT),
                )
                if not (job == names.TRAEFIK and context.platform.routing is Routing.FOREIGN)
            ),
            static(names.OTEL_COLLECTOR, names.OTEL_METRICS_PORT),
            {
                "job_name": names.PROMETHEUS,
                "static_configs": [{"targets": [f"127.0.0.1:{names.PROMETHEUS_PORT}"]}],
            },
        ],
    }


def _yaml(context: Context) -> str:
    return yaml.safe_dump(configuration(context), sort_keys=False, width=1000)
