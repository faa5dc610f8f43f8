"""Every secret that an environment has: what it is, how a new one is made, who uses it.

On `local` all of them are generated; elsewhere an operator puts in those that have another issuer than us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from infra import local
from infra.secrets import generators
from infra.secrets.generators import Generator

OURS = "us"
"""Issuer of what we generate ourselves, in every environment."""


@dataclass(frozen=True)
class Secret:
    """One secret.

    `public` names the objects that follow from the value and may be known to all (`public/<name>` in the
    store). `local` ones belong to the outside world of the local stack and exist nowhere else.
    """

    name: str
    what: str
    generate: Generator
    issuer: str = OURS
    consumers: tuple[str, ...] = ()
    local: bool = False
    public: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


AGENTS = "agents"
POSTGRES = "postgres"
REDIS = "redis"
PROMETHEUS = "prometheus"
TRAEFIK = "traefik"
OAUTH2_PROXY = "oauth2-proxy"
COLLECTOR = "otel-collector"
CONTROLLER = "controller"

WORLD_CA_CERTIFICATE = "world-ca.pem"
BACKUP_IDENTITY = "backup-identity"
BACKUP_RECIPIENT = "backup-identity.pub"
OPERATOR_PUBLIC_KEY = "operator-ssh-key.pub"
SIGNING_PUBLIC_KEY = "image-signing-key.pub"


def ssh_host_key(machine: str) -> str:
    """Name of the secret with a machine's SSH host key."""
    return f"ssh-host-key-{machine}"


def ssh_host_public_key(machine: str) -> str:
    """Name of the public object with a machine's SSH host key: `ssh-ed25519 AAAA…`."""
    return f"{ssh_host_key(machine)}.pub"


class Channel(StrEnum):
    """Where people are told of what procedures do (REC-2); written `#deployments` to them."""

    DEPLOYMENTS = "deployments"
    STATUS = "status"
    INCIDENTS = "incidents"
    OPS_AI = "ops-ai"


def slack_webhook(channel: Channel) -> str:
    """Name of the secret with the URL of a channel's webhook."""
    return f"slack-webhook-{channel}"


def tls_key(party: str) -> str:
    """Name of the secret with the TLS key of a party of the outside world."""
    return f"tls-key-{party}"


def tls_certificate(party: str) -> str:
    """Name of the public object with a party's certificate, PEM."""
    return f"tls-{party}.pem"


ACME_KEY = "acme-intermediate-key"
ACME_CERTIFICATE = "acme-intermediate.pem"

TLS_PARTIES = (local.LOGIN, local.REGISTRY, local.VENDORS, local.TRACES)
"""Who serves TLS with a certificate of the world's CA."""

_WORLD = (
    Secret(
        "world-ca-key",
        "key of the certificate authority of the local stack's outside world",
        generators.ec_key,
        consumers=(CONTROLLER,),
        local=True,
    ),
    Secret(
        ACME_KEY,
        "key of the intermediate authority with which the local ACME server issues certificates",
        generators.ec_key,
        consumers=(local.ACME.name,),
        local=True,
    ),
    *(
        Secret(
            tls_key(party.name),
            f"TLS key of {party.host}",
            generators.ec_key,
            consumers=(party.name,),
            local=True,
        )
        for party in TLS_PARTIES
    ),
    *(
        Secret(
            ssh_host_key(machine.name),
            f"SSH host key of {machine.host}",
            generators.ssh_key,
            consumers=(machine.name,),
            local=True,
            public={ssh_host_public_key(machine.name): generators.ssh_public_key},
        )
        for machine in local.MACHINES
    ),
    Secret(
        "operator-ssh-key",
        "SSH key with which the controller reaches the machines in containers as `ops`",
        generators.ssh_key,
        consumers=(CONTROLLER,),
        local=True,
        public={OPERATOR_PUBLIC_KEY: generators.ssh_public_key},
    ),
    Secret(
        "login-signing-key",
        "key with which the local identity provider signs tokens (RS256)",
        generators.rsa_key,
        consumers=(local.LOGIN.name,),
        local=True,
    ),
    Secret(
        "login-cookie-key",
        "key with which the local identity provider signs its cookies",
        generators.alphanumeric(40),
        consumers=(local.LOGIN.name,),
        local=True,
    ),
    Secret(
        "login-password-alice",
        "password of the test user alice at the local identity provider",
        generators.alphanumeric(24),
        consumers=(local.LOGIN.name, "tests"),
        local=True,
    ),
    Secret(
        "login-password-bob",
        "password of the test user bob, who is in no group, at the local identity provider",
        generators.alphanumeric(24),
        consumers=(local.LOGIN.name, "tests"),
        local=True,
    ),
    Secret(
        "pagerduty-api-token",
        "token of the local PagerDuty's REST API, with which tests read incidents back",
        generators.alphanumeric(20),
        consumers=(local.VENDORS.name, "tests"),
        local=True,
    ),
)

_VENDOR_ISSUED = (
    Secret(
        "openai-api-key",
        "OpenAI API key of the service",
        generators.alphanumeric(48, "sk-proj-"),
        issuer="OpenAI, project icupa-agents",
        consumers=(AGENTS, "supabase"),
    ),
    Secret(
        "openai-admin-key",
        "OpenAI admin key, makes and revokes API keys",
        generators.alphanumeric(48, "sk-admin-"),
        issuer="OpenAI, organisation settings",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "supabase-service-role-key",
        "Supabase service-role key",
        generators.alphanumeric(40, "sb_secret_"),
        issuer="Supabase, project API settings",
        consumers=(AGENTS,),
    ),
    Secret(
        "supabase-management-token",
        "Supabase access token for keys, functions and their secrets",
        generators.hexadecimal(20, "sbp_"),
        issuer="Supabase, account access tokens",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "oauth-client-secret",
        "secret of the OIDC client icupa-agents",
        generators.alphanumeric(48),
        issuer="the company's OIDC provider",
        consumers=(OAUTH2_PROXY,),
    ),
    Secret(
        "login-smoke-secret",
        "secret of the OIDC client smoke, with which the smoke checks get bearer tokens",
        generators.alphanumeric(48),
        issuer="the company's OIDC provider",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "otlp-token",
        "bearer token of the traces backend",
        generators.alphanumeric(48),
        issuer="the traces backend",
        consumers=(COLLECTOR,),
    ),
    Secret(
        "traces-query-token",
        "token that may read traces, with which the smoke checks look for theirs",
        generators.alphanumeric(48),
        issuer="the traces backend",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "registry-password",
        "password or token of the image registry, may push",
        generators.alphanumeric(40),
        issuer="the image registry",
        consumers=(CONTROLLER, "docker"),
    ),
    Secret(
        "whatsapp-app-secret",
        "secret of the WhatsApp app: signs webhooks",
        generators.hexadecimal(16),
        issuer="Meta, app settings",
        consumers=(AGENTS,),
    ),
    Secret(
        "tsig-failover",
        "TSIG key (hmac-sha256, base64) that may write the public record",
        generators.base64_key(32),
        issuer="the name server's operator",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "tsig-acme",
        "TSIG key (hmac-sha256, base64) that may write the challenge zone",
        generators.base64_key(32),
        issuer="the name server's operator",
        consumers=(TRAEFIK,),
    ),
    Secret(
        "cloudflare-token",
        "Cloudflare token that may edit the zone",
        generators.alphanumeric(40),
        issuer="Cloudflare, API tokens",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "cloudflare-challenge-token",
        "Cloudflare token that may edit the challenge zone only",
        generators.alphanumeric(40),
        issuer="Cloudflare, API tokens",
        consumers=(TRAEFIK,),
    ),
    Secret(
        "digitalocean-token",
        "DigitalOcean token that may manage droplets",
        generators.hexadecimal(32, "dop_v1_"),
        issuer="DigitalOcean, API tokens",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "slack-token",
        "Slack bot token for the operations channels",
        generators.alphanumeric(48, "xoxb-"),
        issuer="Slack, app settings",
        consumers=(CONTROLLER,),
    ),
    *(
        Secret(
            slack_webhook(channel),
            f"URL of the incoming webhook of #{channel}",
            generators.slack_webhook(f"https://{local.VENDORS.host}/slack"),
            issuer="Slack, app settings, incoming webhooks",
            consumers=(CONTROLLER,),
        )
        for channel in Channel
    ),
    Secret(
        "pagerduty-token",
        "PagerDuty integration (routing) key",
        generators.hexadecimal(16),
        issuer="PagerDuty, service integrations",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "vercel-token",
        "Vercel access token for environment variables",
        generators.alphanumeric(24),
        issuer="Vercel, account tokens",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "statuspage-token",
        "API key of the status page",
        generators.alphanumeric(40),
        issuer="the status page",
        consumers=(CONTROLLER,),
    ),
)

_OWN = (
    Secret(
        "oauth2-proxy-cookie-secret",
        "key that encrypts oauth2-proxy's session cookies (32 octets, base64url)",
        generators.base64url_key(32),
        consumers=(OAUTH2_PROXY,),
    ),
    Secret(
        "whatsapp-verify-token",
        "token that answers the WhatsApp webhook's verification",
        generators.alphanumeric(40),
        consumers=(AGENTS, "Meta, webhook settings"),
    ),
    Secret(
        "postgres-superuser-password",
        "password of the PostgreSQL superuser",
        generators.alphanumeric(40),
        consumers=(POSTGRES,),
    ),
    Secret(
        "postgres-owner-password",
        "password of the PostgreSQL role that owns the schema and migrates it",
        generators.alphanumeric(40),
        consumers=(AGENTS,),
    ),
    Secret(
        "postgres-app-password",
        "password of the PostgreSQL role of the running service",
        generators.alphanumeric(40),
        consumers=(AGENTS,),
    ),
    Secret(
        "redis-password",
        "password of Redis",
        generators.alphanumeric(40),
        consumers=(REDIS, AGENTS),
    ),
    Secret(
        "metrics-token",
        "bearer token that the service's metrics ask for",
        generators.alphanumeric(40),
        consumers=(AGENTS, PROMETHEUS),
    ),
    Secret(
        BACKUP_IDENTITY,
        "age identity that opens backups; hosts know its recipient only",
        generators.age_identity,
        consumers=(CONTROLLER,),
        public={BACKUP_RECIPIENT: generators.age_recipient},
    ),
    Secret(
        "image-signing-key",
        "P-256 key (PKCS#8 PEM) that signs images",
        generators.ec_key,
        consumers=(CONTROLLER,),
        public={SIGNING_PUBLIC_KEY: generators.public_key_pem},
    ),
    Secret(
        "image-signing-password",
        "password that protects the signing key once it is imported into cosign",
        generators.alphanumeric(40),
        consumers=(CONTROLLER,),
    ),
)

CATALOGUE: Mapping[str, Secret] = MappingProxyType(
    {secret.name: secret for secret in sorted((*_VENDOR_ISSUED, *_OWN, *_WORLD), key=lambda item: item.name)}
)
"""Every secret by its name, in alphabetical order."""
