"""Names, ports and users of the services: what one service has to know of another (docs/architecture.md)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

AGENTS = "agents"
MIGRATE = "migrate"
TRAEFIK = "traefik"
OAUTH2_PROXY = "oauth2-proxy"
OTEL_COLLECTOR = "otel-collector"
POSTGRES = "postgres"
REDIS = "redis"
PROMETHEUS = "prometheus"
MAINTENANCE = "maintenance"

AGENTS_IMAGE = "agents-service"
AGENTS_PORT = 8080
TRAEFIK_INTERNAL_PORT = 8082
OAUTH2_PROXY_PORT = 4180
OAUTH2_PROXY_METRICS_PORT = 44180
OTLP_GRPC_PORT = 4317
OTLP_HTTP_PORT = 4318
OTEL_HEALTH_PORT = 13133
OTEL_METRICS_PORT = 8888
POSTGRES_PORT = 5432
REDIS_PORT = 6379
PROMETHEUS_PORT = 9090
MAINTENANCE_PORT = 8090

DATABASE = "agents"
DATABASE_OWNER = "agents_owner"
"""Role that owns the schema and migrates it."""
DATABASE_APP = "agents"
"""What the running service may do: owns nothing. Its logins are members of it."""

USERS = {
    AGENTS: 10001,
    TRAEFIK: 10002,
    OAUTH2_PROXY: 10003,
    OTEL_COLLECTOR: 10004,
    POSTGRES: 10005,
    REDIS: 10006,
    PROMETHEUS: 10007,
    MAINTENANCE: 10008,
}

EDGE_SUBNET = IPv4Network("172.31.250.0/24")
EDGE_POOL = IPv4Network("172.31.250.128/25")
"""Where the engine takes addresses from, so that nobody is given the fixed one."""
EDGE_GATEWAY = IPv4Address("172.31.250.1")
"""The host, as its services see it."""
TRAEFIK_ADDRESS = IPv4Address("172.31.250.2")
"""Fixed, because oauth2-proxy believes forwarded headers from this address only."""

TRUST_PATH = "/etc/icupa/trust.pem"
SECRETS_PATH = "/run/secrets"
