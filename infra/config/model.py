"""The stack file as types (CFG-1, CFG-2). Values of secrets are never in it: references are."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator

from infra.config.types import (
    DIRECTORY_SCHEME,
    S3_SCHEME,
    AgeRecipient,
    Certificate,
    CpuPercent,
    Cpus,
    DomainName,
    Email,
    EmailDomain,
    Headers,
    HostName,
    Identifier,
    Ipv4,
    Ipv4Network,
    KubeContext,
    KubeName,
    Latency,
    MemoryGb,
    ModelName,
    PortNumber,
    RecordAuthorities,
    RecordEndpoint,
    RecordRegion,
    RecordUrl,
    Region,
    Replicas,
    ScrapeSeconds,
    SecretReference,
    ServiceName,
    ServiceUrl,
    Share,
    SshPublicKey,
    SupabaseProject,
    Switch,
    Ttl,
    Turns,
    Url,
    UsdAmount,
    UserName,
    VectorStoreId,
    WindowSeconds,
    Word,
    ZoneId,
)
from infra.secrets.catalogue import Channel


class Model(BaseModel):
    """Base of everything in a stack file: unknown keys refused, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Role(StrEnum):
    """What a host is for; which one serves is runtime state."""

    PRIMARY = "primary"
    STANDBY = "standby"


class DropletSize(StrEnum):
    """Machine types of DigitalOcean that are large enough (VM-1: 2 vCPU, 4 GB)."""

    BASIC_2_4 = "s-2vcpu-4gb"
    BASIC_4_8 = "s-4vcpu-8gb"
    BASIC_8_16 = "s-8vcpu-16gb"
    GENERAL_2_8 = "g-2vcpu-8gb"
    GENERAL_4_16 = "g-4vcpu-16gb"
    CPU_2_4 = "c-2"
    CPU_4_8 = "c-4"


class _Machine(Model):
    name: ServiceName
    region: Region
    role: Role


class DockerMachine(_Machine):
    """A systemd machine in a container; its address stands in `infra/local.py`."""

    cpus: Cpus = 2
    memory_gb: MemoryGb = 4


class DropletMachine(_Machine):
    """A DigitalOcean Droplet; `host_key` is pinned here once the Droplet has made one."""

    size: DropletSize = DropletSize.BASIC_2_4
    ip_range: Ipv4Network
    host_key: SshPublicKey | None = None


class ExistingMachine(_Machine):
    """A machine that somebody else made."""

    address: Ipv4
    port: PortNumber = 22
    host_key: SshPublicKey


class DockerHosts(Model):
    """Machines in containers of this computer's Docker Engine."""

    driver: Literal["docker"]
    user: UserName = "ops"
    machines: Annotated[tuple[DockerMachine, ...], Field(min_length=1)]


class DigitalOceanHosts(Model):
    """Droplets with Ubuntu 24.04 LTS."""

    driver: Literal["digitalocean"]
    user: UserName = "ops"
    image: Literal["ubuntu-24-04-x64", "debian-12-x64", "debian-13-x64"] = "ubuntu-24-04-x64"
    operator_keys: Annotated[tuple[SshPublicKey, ...], Field(min_length=1)]
    operator_networks: Annotated[tuple[Ipv4Network, ...], Field(min_length=1)]
    machines: Annotated[tuple[DropletMachine, ...], Field(min_length=1)]


class ExistingHosts(Model):
    """Machines by address."""

    driver: Literal["existing"]
    user: UserName = "ops"
    machines: Annotated[tuple[ExistingMachine, ...], Field(min_length=1)]


Hosts = Annotated[DockerHosts | DigitalOceanHosts | ExistingHosts, Field(discriminator="driver")]


class Rfc2136Dns(Model):
    """An authoritative server that takes TSIG updates: one key for the public record, one for challenges."""

    driver: Literal["rfc2136"]
    zone: DomainName
    challenge_zone: DomainName
    server: Ipv4
    port: PortNumber = 53
    ttl: Ttl
    algorithm: Literal["hmac-sha256", "hmac-sha512"] = "hmac-sha256"
    key_name: Identifier
    key_secret: SecretReference
    challenge_key_name: Identifier
    challenge_key_secret: SecretReference


class CloudflareDns(Model):
    """A zone at Cloudflare, records never proxied (002, section 4)."""

    driver: Literal["cloudflare"]
    zone: DomainName
    zone_id: ZoneId
    challenge_zone: DomainName
    plan: Literal["free", "pro", "business", "enterprise"] = "free"
    ttl: Ttl
    api_token: SecretReference
    challenge_api_token: SecretReference


Dns = Annotated[Rfc2136Dns | CloudflareDns, Field(discriminator="driver")]


class Acme(Model):
    """The certificate authority and the account's contact."""

    directory: Url
    email: Email


class Registry(Model):
    """Where images are pushed to and pulled from: `<host>/<namespace>/<image>`."""

    host: HostName
    namespace: Identifier
    username: Identifier
    password: SecretReference


class Login(Model):
    """The OIDC provider (VM-6)."""

    issuer: Url
    client_id: Identifier
    client_secret: SecretReference
    cookie_secret: SecretReference
    smoke_client_id: Identifier = "smoke"
    """Client of the smoke checks, by client credentials; its tokens have one of the audiences."""
    smoke_client_secret: SecretReference = "${secret:login-smoke-secret}"  # noqa: S105 - a reference
    audiences: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    email_domains: Annotated[tuple[EmailDomain, ...], Field(min_length=1)]


class Notifications(Model):
    """Webhook of each channel, in Slack's format: the URL itself is a secret."""

    deployments: SecretReference
    status: SecretReference
    incidents: SecretReference
    ops_ai: SecretReference

    def webhook(self, channel: Channel) -> str:
        """Reference to the URL of a channel's webhook."""
        return str(getattr(self, channel.replace("-", "_")))


class Supabase(Model):
    """Supabase's management API, and the projects whose functions serve this environment (CFG-5)."""

    management_url: Url = "https://api.supabase.com"
    management_token: SecretReference
    projects: Annotated[tuple[SupabaseProject, ...], Field(min_length=1)]


class RecordConfig(Model):
    """Store of the environment's record (REC-1): a directory, or bucket and prefix of an object store.

    Credentials are not part of it: they come from the provider's ordinary environment variables.
    """

    url: RecordUrl
    region: RecordRegion | None = None
    endpoint: RecordEndpoint | None = None
    """Of an S3-compatible store that is not AWS."""
    ca: RecordAuthorities | None = None
    """Whom to trust besides the system's authorities, for a store with a private one."""

    @field_validator("region", "endpoint", "ca")
    @classmethod
    def _belongs_to_the_store(cls, value: str | None, info: ValidationInfo) -> str | None:
        url = info.data.get("url")
        if value is None or url is None:
            return value
        scheme = urlsplit(url).scheme
        if scheme == DIRECTORY_SCHEME:
            raise ValueError("is for object stores only")
        if info.field_name != "ca" and scheme != S3_SCHEME:
            raise ValueError(f"is for {S3_SCHEME}:// only")
        return value


class SecretStore(Model):
    """Where values of secrets are kept."""

    driver: Literal["sops"] = "sops"
    recipients: tuple[AgeRecipient, ...] = ()
    """Who can decrypt: required but for machines in containers of this computer."""


class Variables(Model):
    """Environment of the service by the names of 002, section 3, and 003; one set a region."""

    OPENAI_API_KEY: SecretReference
    OPENAI_BASE_URL: Url = "https://api.openai.com/v1"
    OPENAI_DEFAULT_MODEL: ModelName
    OPENAI_LOW_COST_MODEL: ModelName
    OPENAI_FAILOVER_MODEL: ModelName
    OPENAI_RESPONSES_MODEL: ModelName
    SUPABASE_URL: Url
    SUPABASE_SERVICE_ROLE_KEY: SecretReference
    AGENTS_MENU_VECTOR_STORE_ID: VectorStoreId
    AGENTS_ALLERGENS_VECTOR_STORE_ID: VectorStoreId
    AGENTS_POLICIES_VECTOR_STORE_ID: VectorStoreId
    AGENT_SESSION_BUDGET_USD: UsdAmount = Decimal("0.75")
    AGENT_DAILY_BUDGET_USD: UsdAmount = Decimal("50")
    WHATSAPP_APP_SECRET: SecretReference
    WHATSAPP_VERIFY_TOKEN: SecretReference
    OTEL_SERVICE_NAME: ServiceName = "icupa-agents-service"
    OTEL_EXPORTER_OTLP_ENDPOINT: ServiceUrl = "http://otel-collector:4318"
    OTEL_EXPORTER_OTLP_HEADERS: Headers = ""
    OTLP_EXPORTER_ENDPOINT: Url
    OTLP_EXPORTER_HEADERS: Headers


if TYPE_CHECKING:

    class StandbyVariables(Model):
        """Variables that differ in the standby region; every one of `Variables` may."""

else:
    StandbyVariables = create_model(
        "StandbyVariables",
        __base__=Model,
        **{name: (field.rebuild_annotation() | None, None) for name, field in Variables.model_fields.items()},
    )


class Switches(Model):
    """First values of the switches (CFG-2); afterwards they live in the environment's record."""

    AI_REALTIME_ENABLED: Switch
    AI_RESPONSES_ENABLED: Switch
    WHATSAPP_INTEGRATION_ENABLED: Switch
    FEATURE_AGENT_CHAT: Switch
    FEATURE_AGENT_VOICE: Switch
    FEATURE_AGENT_VOUCHERS: Switch

    def as_environment(self) -> dict[str, str]:
        """Values as the service reads them: `true` or `false`."""
        return {name: str(value).lower() for name, value in self.model_dump().items()}


LEAST_SCRAPES = 4
"""A rollout's window has at least that many scrapes: what two or three say is no rate."""


class Metrics(Model):
    """How often Prometheus asks everything on a host (OBS-2)."""

    scrape_seconds: ScrapeSeconds = 15


class Rollout(Model):
    """Gate of a flag's rollout: each phase is held for a window and judged by it (DEP-3).

    Limits of 000: p95 5 s, errors 2 %; the sources give no number for guardrails. Shares are of turns that
    the service answered or failed; fewer than `minimum_turns` of them are no data.
    """

    window_seconds: WindowSeconds = 1800
    minimum_turns: Turns = 100
    p95_seconds: Latency = 5
    error_rate: Share = 0.02
    guardrail_rate: Share = 0.01


Command = Annotated[tuple[Word, ...], Field(min_length=1)]


class Commands(Model):
    """Commands of the application, run from the release's image as arguments of its entry point.

    They get the environment of the service, or of its migration, on the host; `flags_set` is given a key and
    `on` or `off`, `flags_disable` keys. `migration_plan` prints JSON (`infra.release.schema.Plan`).
    """

    smoke: Command = ("smoke",)
    migrate: Command = ("migrate",)
    migration_plan: Command = ("migrate", "--plan")
    check_schema: Command = ("check-schema",)
    sync_vector_stores: Command = ("sync-vector-stores",)
    flags_list: Command = ("flags", "list")
    flags_set: Command = ("flags", "set")
    flags_disable: Command = ("flags", "disable")


class Traces(Model):
    """Tempo's query API, where the smoke checks look for their traces (VM-7)."""

    query_url: Url
    """Above `/api/traces/<id>`."""
    username: Identifier | None = None
    """With one the token is a password (Basic), without it is a bearer's."""
    token: SecretReference


class Cluster(Model):
    """A Kubernetes cluster by its kubeconfig context; somebody else made it."""

    context: KubeContext
    region: Region
    role: Role
    pod_networks: Annotated[tuple[Ipv4Network, ...], Field(min_length=1)]
    """Where pods have their addresses: the login believes forwarded headers from there only."""


class ManagedDatabase(Model):
    """PostgreSQL that somebody else runs, TLS verified; passwords are the same secrets as everywhere."""

    host: DomainName
    port: PortNumber = 5432
    name: Identifier = "agents"
    user: Identifier = "agents"
    owner: Identifier = "agents_owner"


class ManagedRedis(Model):
    """Redis that somebody else runs, reached by TLS."""

    host: DomainName
    port: PortNumber = 6379


class ManagedData(Model):
    """Data are somebody else's (DB-1)."""

    driver: Literal["managed"]
    database: ManagedDatabase
    redis: ManagedRedis


class SelfHostedData(Model):
    """PostgreSQL and Redis beside the service, each with a volume (DB-1)."""

    driver: Literal["self-hosted"]


Data = Annotated[ManagedData | SelfHostedData, Field(discriminator="driver")]


class TraefikIngress(Model):
    """A Traefik of our own in front of the service, with the settings that hosts have."""

    driver: Literal["traefik"]


class NginxIngress(Model):
    """The cluster's own NGINX ingress controller: its class, and the namespace that its pods are in."""

    driver: Literal["nginx"]
    class_name: KubeName = "nginx"
    namespace: KubeName = "ingress-nginx"


Ingress = Annotated[TraefikIngress | NginxIngress, Field(discriminator="driver")]


class Scaling(Model):
    """How many of each replicated service the autoscaler may run, and the load of CPUs that it aims at."""

    minimum: Replicas = 2
    maximum: Replicas = 6
    cpu_percent: CpuPercent = 70


class Kubernetes(Model):
    """The environment on Kubernetes (K8S-1..5)."""

    clusters: Annotated[tuple[Cluster, ...], Field(min_length=1)]
    data: Data
    ingress: Ingress = TraefikIngress(driver="traefik")
    scaling: Scaling = Scaling()
    storage_class: KubeName | None = None
    """Of volumes; the cluster's own default where it is not named."""


class Stack(Model):
    """One environment."""

    domain: DomainName
    hosts: Hosts
    dns: Dns
    acme: Acme
    resolvers: Annotated[tuple[Ipv4, ...], Field(min_length=1)]
    trust: tuple[Certificate, ...] = ()
    registry: Registry
    login: Login
    record: RecordConfig
    secretstore: SecretStore = SecretStore()
    notifications: Notifications
    supabase: Supabase
    variables: Variables
    standby_variables: StandbyVariables = StandbyVariables()
    switches: Switches
    metrics: Metrics = Metrics()
    traces: Traces | None = None
    rollout: Rollout = Rollout()
    commands: Commands = Commands()
    kubernetes: Kubernetes | None = None

    def variables_for(self, role: Role) -> Variables:
        """Variables of a region: the standby's own where it has some, the primary's otherwise (CFG-1)."""
        if role is Role.PRIMARY:
            return self.variables
        own = {
            name: getattr(self.standby_variables, name) for name in self.standby_variables.model_fields_set
        }
        return self.variables.model_copy(
            update={name: value for name, value in own.items() if value is not None}
        )

    def regional_name(self, region: str) -> str:
        """DNS name of one region, which has a certificate at any time as the public name has."""
        return f"{region}.{self.domain}"
