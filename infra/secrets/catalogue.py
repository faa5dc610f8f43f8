"""Every secret that an environment has: what it is, how a new one is made, how often and how it is replaced.

On `local` all of them are generated; elsewhere an operator puts in those that have another issuer than us.
Periods of the OpenAI key, the service-role key and the OIDC client's secret are the runbook's (000); where it
names none they are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from infra import local
from infra.secrets import generators
from infra.secrets.generators import Generator

OURS = "us"
"""Issuer of what we generate ourselves, in every environment."""


class Period(StrEnum):
    """How long a value may be used (SEC-1, SEC-2)."""

    QUARTERLY = "quarterly"
    YEARLY = "yearly"
    ON_COMPROMISE = "on compromise"
    NONE = "none"

    @property
    def limit(self) -> timedelta | None:
        """Age at which it is due, None where age is no reason to replace it."""
        return _LIMITS.get(self)


_LIMITS = {Period.QUARTERLY: timedelta(days=91), Period.YEARLY: timedelta(days=365)}


class Owner(StrEnum):
    """Who sees to it that it is replaced."""

    AI_PLATFORM = "AI Platform"
    DEVOPS = "DevOps"


class Driver(StrEnum):
    """Where a new value is made valid and an old one invalid."""

    OPENAI = "openai"
    SUPABASE = "supabase"
    OIDC = "oidc"
    TRACES = "traces"
    REGISTRY = "registry"
    META = "meta"
    NAMESERVER = "nameserver"
    CLOUDFLARE = "cloudflare"
    DIGITALOCEAN = "digitalocean"
    SLACK = "slack"
    PAGERDUTY = "pagerduty"
    VERCEL = "vercel"
    STATUSPAGE = "statuspage"
    POSTGRES = "postgres"
    REDIS = "redis"
    CONSUMERS = "consumers"
    """Nobody but those who have it judges it: it is valid as long as they are given it."""
    BACKUP = "backup"
    SIGNATURE = "signature"
    WORLD = "world"
    """The outside world of a local stack."""


@dataclass(frozen=True)
class Overlap:
    """Whether an old and a new value can be valid at once; `how`, or why not and what is noticed of it."""

    possible: bool
    how: str


@dataclass(frozen=True)
class Rotation:
    """How a secret is replaced. `revoked`: what is so of an old value that is revoked.

    `reason` says why age alone is none to replace it, where `period` has no limit.
    """

    owner: Owner
    period: Period
    driver: Driver
    revoked: str
    overlap: Overlap
    reason: str = ""


@dataclass(frozen=True)
class Secret:
    """One secret.

    `consumers` are those that read it and that neither a service's definition nor a stack file names.
    `public` names the objects that follow from the value and may be known to all (`public/<name>` in the
    store). `local` ones belong to the outside world of the local stack and exist nowhere else.
    """

    name: str
    what: str
    generate: Generator
    rotation: Rotation
    issuer: str = OURS
    consumers: tuple[str, ...] = ()
    local: bool = False
    public: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


CONTROLLER = "controller"
SUPABASE_FUNCTIONS = "Supabase functions"

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

_SEVERAL = "its issuer accepts several at once"
_API_REFUSES = "its issuer's API answers it with 401 or 403"


def _vendor(owner: Owner, period: Period, driver: Driver) -> Rotation:
    """A token of which its issuer accepts several at once."""
    return Rotation(owner, period, driver, _API_REFUSES, Overlap(True, _SEVERAL))


_OPENAI = _vendor(Owner.AI_PLATFORM, Period.QUARTERLY, Driver.OPENAI)
_SUPABASE = _vendor(Owner.AI_PLATFORM, Period.QUARTERLY, Driver.SUPABASE)
_REGISTRY = _vendor(Owner.DEVOPS, Period.YEARLY, Driver.REGISTRY)
_CLOUDFLARE = _vendor(Owner.DEVOPS, Period.QUARTERLY, Driver.CLOUDFLARE)
_DIGITALOCEAN = _vendor(Owner.DEVOPS, Period.QUARTERLY, Driver.DIGITALOCEAN)
_VERCEL = _vendor(Owner.AI_PLATFORM, Period.QUARTERLY, Driver.VERCEL)
_STATUSPAGE = _vendor(Owner.DEVOPS, Period.YEARLY, Driver.STATUSPAGE)
_TRACES = Rotation(
    Owner.DEVOPS,
    Period.NONE,
    Driver.TRACES,
    _API_REFUSES,
    Overlap(True, _SEVERAL),
    reason="replaced when the backend replaces its own (000)",
)
_OIDC = Rotation(
    Owner.DEVOPS,
    Period.YEARLY,
    Driver.OIDC,
    "the provider's token endpoint answers it with invalid_client",
    Overlap(False, "a client has one secret: logins fail until its readers have the new one, sessions go on"),
)
_WHATSAPP_APP = Rotation(
    Owner.AI_PLATFORM,
    Period.YEARLY,
    Driver.META,
    "the service answers a webhook signed with it with 401",
    Overlap(
        False,
        "Meta signs with one, the service checks one: webhooks in between are refused, Meta sends them again",
    ),
)
_WHATSAPP_VERIFY = Rotation(
    Owner.AI_PLATFORM,
    Period.YEARLY,
    Driver.META,
    "the service answers a verification that has it with 403",
    Overlap(False, "the service knows one; nobody notices: Meta asks only when the webhook is verified"),
)
_TSIG = Rotation(
    Owner.DEVOPS,
    Period.YEARLY,
    Driver.NAMESERVER,
    "the name server refuses an update signed with it (BADKEY or BADSIG)",
    Overlap(True, "the name server knows two keys, under two names"),
)
_SLACK_BOT = Rotation(
    Owner.DEVOPS,
    Period.YEARLY,
    Driver.SLACK,
    "auth.test answers it with invalid_auth or token_revoked",
    Overlap(False, "an installation of the app has one"),
)
_SLACK_WEBHOOK = Rotation(
    Owner.DEVOPS,
    Period.YEARLY,
    Driver.SLACK,
    "a message to it is refused with 403, 404 or 410",
    Overlap(True, "a channel may have several webhooks"),
)
_PAGERDUTY = Rotation(
    Owner.DEVOPS,
    Period.YEARLY,
    Driver.PAGERDUTY,
    "an event with it opens no incident",
    Overlap(True, "a service may have several integrations"),
)
_COOKIE = Rotation(
    Owner.DEVOPS,
    Period.QUARTERLY,
    Driver.CONSUMERS,
    "a session's cookie made with it leads to the login",
    Overlap(
        True,
        "two instances of oauth2-proxy, one with each; one instance has one: with that, all log in again",
    ),
)
_POSTGRES_APP = Rotation(
    Owner.DEVOPS,
    Period.QUARTERLY,
    Driver.POSTGRES,
    "the server refuses to authenticate with it",
    Overlap(True, "two roles that alternate, each with a password of its own"),
)
_POSTGRES_OWNER = Rotation(
    Owner.DEVOPS,
    Period.QUARTERLY,
    Driver.POSTGRES,
    "the server refuses to authenticate with it",
    Overlap(
        False, "one role owns the schema; only migrations log in with it, none may run while it is replaced"
    ),
)
_POSTGRES_SUPERUSER = Rotation(
    Owner.DEVOPS,
    Period.YEARLY,
    Driver.POSTGRES,
    "the server refuses to authenticate with it",
    Overlap(False, "a role has one password; nobody notices: the service never logs in with it"),
)
_REDIS = Rotation(
    Owner.DEVOPS,
    Period.QUARTERLY,
    Driver.REDIS,
    "AUTH with it is answered with WRONGPASS",
    Overlap(True, "a user of Redis may have several passwords (ACL SETUSER)"),
)
_METRICS = Rotation(
    Owner.DEVOPS,
    Period.YEARLY,
    Driver.CONSUMERS,
    "the service answers a scrape with it with 401",
    Overlap(False, "the service knows one: scrapes fail until service and Prometheus both have the new one"),
)
_BACKUP = Rotation(
    Owner.DEVOPS,
    Period.ON_COMPROMISE,
    Driver.BACKUP,
    "new backups are not encrypted for it; old ones are opened with it until they are removed, so it is kept",
    Overlap(True, "a backup names the recipient that it was made for"),
    reason="replacing it protects no backup that is there",
)
_SIGNATURE = Rotation(
    Owner.DEVOPS,
    Period.ON_COMPROMISE,
    Driver.SIGNATURE,
    "a deploy refuses an image that only it has signed",
    Overlap(False, "one public key is checked: releases that are kept have to be signed again"),
    reason="every release that is kept is signed with it",
)
_SIGNATURE_PASSWORD = Rotation(
    Owner.DEVOPS,
    Period.NONE,
    Driver.SIGNATURE,
    "it opens no key that is still used",
    Overlap(False, "it belongs to one imported key"),
    reason="replaced together with image-signing-key",
)
_WORLD_ROTATION = Rotation(
    Owner.DEVOPS,
    Period.NONE,
    Driver.WORLD,
    "the stack that it belongs to is gone",
    Overlap(False, "the outside world of a local stack has one"),
    reason="made with a local stack and removed with it",
)

_WORLD = (
    Secret(
        "world-ca-key",
        "key of the certificate authority of the local stack's outside world",
        generators.ec_key,
        _WORLD_ROTATION,
        consumers=(CONTROLLER,),
        local=True,
    ),
    Secret(
        ACME_KEY,
        "key of the intermediate authority with which the local ACME server issues certificates",
        generators.ec_key,
        _WORLD_ROTATION,
        consumers=(local.ACME.name,),
        local=True,
    ),
    *(
        Secret(
            tls_key(party.name),
            f"TLS key of {party.host}",
            generators.ec_key,
            _WORLD_ROTATION,
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
            _WORLD_ROTATION,
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
        _WORLD_ROTATION,
        consumers=(CONTROLLER,),
        local=True,
        public={OPERATOR_PUBLIC_KEY: generators.ssh_public_key},
    ),
    Secret(
        "login-signing-key",
        "key with which the local identity provider signs tokens (RS256)",
        generators.rsa_key,
        _WORLD_ROTATION,
        consumers=(local.LOGIN.name,),
        local=True,
    ),
    Secret(
        "login-cookie-key",
        "key with which the local identity provider signs its cookies",
        generators.alphanumeric(40),
        _WORLD_ROTATION,
        consumers=(local.LOGIN.name,),
        local=True,
    ),
    Secret(
        "login-password-alice",
        "password of the test user alice at the local identity provider",
        generators.alphanumeric(24),
        _WORLD_ROTATION,
        consumers=(local.LOGIN.name, "tests"),
        local=True,
    ),
    Secret(
        "login-password-bob",
        "password of the test user bob, who is in no group, at the local identity provider",
        generators.alphanumeric(24),
        _WORLD_ROTATION,
        consumers=(local.LOGIN.name, "tests"),
        local=True,
    ),
    Secret(
        "pagerduty-api-token",
        "token of the local PagerDuty's REST API, with which tests read incidents back",
        generators.alphanumeric(20),
        _WORLD_ROTATION,
        consumers=(local.VENDORS.name, "tests"),
        local=True,
    ),
)

_VENDOR_ISSUED = (
    Secret(
        "openai-api-key",
        "OpenAI API key of the service",
        generators.alphanumeric(48, "sk-proj-"),
        _OPENAI,
        issuer="OpenAI, project icupa-agents",
        consumers=(SUPABASE_FUNCTIONS,),
    ),
    Secret(
        "openai-admin-key",
        "OpenAI admin key, makes and revokes API keys",
        generators.alphanumeric(48, "sk-admin-"),
        _OPENAI,
        issuer="OpenAI, organisation settings",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "supabase-service-role-key",
        "Supabase service-role key",
        generators.alphanumeric(40, "sb_secret_"),
        _SUPABASE,
        issuer="Supabase, project API settings",
        consumers=(SUPABASE_FUNCTIONS,),
    ),
    Secret(
        "supabase-management-token",
        "Supabase access token for keys, functions and their secrets",
        generators.hexadecimal(20, "sbp_"),
        _SUPABASE,
        issuer="Supabase, account access tokens",
    ),
    Secret(
        "oauth-client-secret",
        "secret of the OIDC client icupa-agents",
        generators.alphanumeric(48),
        _OIDC,
        issuer="the company's OIDC provider",
    ),
    Secret(
        "login-smoke-secret",
        "secret of the OIDC client smoke, with which the smoke checks get bearer tokens",
        generators.alphanumeric(48),
        _OIDC,
        issuer="the company's OIDC provider",
    ),
    Secret(
        "otlp-token",
        "bearer token of the traces backend",
        generators.alphanumeric(48),
        _TRACES,
        issuer="the traces backend",
    ),
    Secret(
        "traces-query-token",
        "token that may read traces, with which the smoke checks look for theirs",
        generators.alphanumeric(48),
        _TRACES,
        issuer="the traces backend",
    ),
    Secret(
        "registry-password",
        "password or token of the image registry, may push",
        generators.alphanumeric(40),
        _REGISTRY,
        issuer="the image registry",
        consumers=("docker",),
    ),
    Secret(
        "whatsapp-app-secret",
        "secret of the WhatsApp app: signs webhooks",
        generators.hexadecimal(16),
        _WHATSAPP_APP,
        issuer="Meta, app settings",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "tsig-failover",
        "TSIG key (hmac-sha256, base64) that may write the public record",
        generators.base64_key(32),
        _TSIG,
        issuer="the name server's operator",
    ),
    Secret(
        "tsig-acme",
        "TSIG key (hmac-sha256, base64) that may write the challenge zone",
        generators.base64_key(32),
        _TSIG,
        issuer="the name server's operator",
    ),
    Secret(
        "cloudflare-token",
        "Cloudflare token that may edit the zone",
        generators.alphanumeric(40),
        _CLOUDFLARE,
        issuer="Cloudflare, API tokens",
    ),
    Secret(
        "cloudflare-challenge-token",
        "Cloudflare token that may edit the challenge zone only",
        generators.alphanumeric(40),
        _CLOUDFLARE,
        issuer="Cloudflare, API tokens",
    ),
    Secret(
        "digitalocean-token",
        "DigitalOcean token that may manage droplets",
        generators.hexadecimal(32, "dop_v1_"),
        _DIGITALOCEAN,
        issuer="DigitalOcean, API tokens",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "slack-token",
        "Slack bot token for the operations channels",
        generators.alphanumeric(48, "xoxb-"),
        _SLACK_BOT,
        issuer="Slack, app settings",
        consumers=(CONTROLLER,),
    ),
    *(
        Secret(
            slack_webhook(channel),
            f"URL of the incoming webhook of #{channel}",
            generators.slack_webhook(f"https://{local.VENDORS.host}/slack"),
            _SLACK_WEBHOOK,
            issuer="Slack, app settings, incoming webhooks",
        )
        for channel in Channel
    ),
    Secret(
        "pagerduty-token",
        "PagerDuty integration (routing) key",
        generators.hexadecimal(16),
        _PAGERDUTY,
        issuer="PagerDuty, service integrations",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "vercel-token",
        "Vercel access token for environment variables",
        generators.alphanumeric(24),
        _VERCEL,
        issuer="Vercel, account tokens",
        consumers=(CONTROLLER,),
    ),
    Secret(
        "statuspage-token",
        "API key of the status page",
        generators.alphanumeric(40),
        _STATUSPAGE,
        issuer="the status page",
        consumers=(CONTROLLER,),
    ),
)

_OWN = (
    Secret(
        "oauth2-proxy-cookie-secret",
        "key that encrypts oauth2-proxy's session cookies (32 octets, base64url)",
        generators.base64url_key(32),
        _COOKIE,
    ),
    Secret(
        "whatsapp-verify-token",
        "token that answers the WhatsApp webhook's verification",
        generators.alphanumeric(40),
        _WHATSAPP_VERIFY,
        consumers=(CONTROLLER, "Meta, webhook settings"),
    ),
    Secret(
        "postgres-superuser-password",
        "password of the PostgreSQL superuser",
        generators.alphanumeric(40),
        _POSTGRES_SUPERUSER,
    ),
    Secret(
        "postgres-owner-password",
        "password of the PostgreSQL role that owns the schema and migrates it",
        generators.alphanumeric(40),
        _POSTGRES_OWNER,
    ),
    Secret(
        "postgres-app-password",
        "password of the PostgreSQL role of the running service",
        generators.alphanumeric(40),
        _POSTGRES_APP,
    ),
    Secret(
        "redis-password",
        "password of Redis",
        generators.alphanumeric(40),
        _REDIS,
    ),
    Secret(
        "metrics-token",
        "bearer token that the service's metrics ask for",
        generators.alphanumeric(40),
        _METRICS,
        consumers=(CONTROLLER,),
    ),
    Secret(
        BACKUP_IDENTITY,
        "age identity that opens backups; hosts know its recipient only",
        generators.age_identity,
        _BACKUP,
        consumers=(CONTROLLER,),
        public={BACKUP_RECIPIENT: generators.age_recipient},
    ),
    Secret(
        "image-signing-key",
        "P-256 key (PKCS#8 PEM) that signs images",
        generators.ec_key,
        _SIGNATURE,
        consumers=(CONTROLLER,),
        public={SIGNING_PUBLIC_KEY: generators.public_key_pem},
    ),
    Secret(
        "image-signing-password",
        "password that protects the signing key once it is imported into cosign",
        generators.alphanumeric(40),
        _SIGNATURE_PASSWORD,
        consumers=(CONTROLLER,),
    ),
)

CATALOGUE: Mapping[str, Secret] = MappingProxyType(
    {secret.name: secret for secret in sorted((*_VENDOR_ISSUED, *_OWN, *_WORLD), key=lambda item: item.name)}
)
"""Every secret by its name, in alphabetical order."""
