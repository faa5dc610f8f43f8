"""Shape of a stack's outputs, for the program that writes them and for those that read them.

They hold references to secrets, never values (SEC-4).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.config.model import (
    Acme,
    Commands,
    Dns,
    Login,
    Metrics,
    Registry,
    Rollout,
    Supabase,
    Switches,
    Traces,
)
from infra.config.types import Ipv4, Ipv4Network
from infra.record import RecordConfig
from infra.secretstore import SecretConfig


class StackError(Exception):
    """The stack can't be read, or its outputs aren't those of this program; the message says what to do."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class HostOutput(_Model):
    """One host; `host_key` is "type base64", `private_key_file` a path on the controller."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    region: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    role: Literal["primary", "standby"]
    address: str
    user: str
    port: int = 22
    host_key: str
    private_key_file: str | None = None
    become: bool = True


class ReleaseOutput(_Model):
    """The image that the program built: the first release."""

    image: str
    digest: str
    git_sha: str


class EdgeOutput(_Model):
    """Network that the proxy reaches the services through, and its own address there."""

    subnet: Ipv4Network
    proxy: Ipv4


class Settings(_Model):
    """What roles and procedures need of the configuration; `dns.ttl` is what the provider allows."""

    registry: Registry
    resolvers: tuple[Ipv4, ...]
    trust: tuple[str, ...]
    """Certificates of authorities, PEM."""
    dns: Dns
    acme: Acme
    login: Login
    switches: Switches
    certificate_names: tuple[str, ...]
    edge: EdgeOutput
    supabase: Supabase
    metrics: Metrics = Metrics()
    rollout: Rollout = Rollout()
    commands: Commands = Commands()
    traces: Traces | None = None


class StackOutputs(_Model):
    """All outputs."""

    environment: str
    domain: str
    hosts: list[HostOutput]
    record: RecordConfig
    secretstore: SecretConfig
    release: ReleaseOutput
    projects: dict[str, dict[str, Any]] = Field(default_factory=dict)
    settings: Settings
    urls: dict[str, str] = Field(default_factory=dict)

    def project(self, host: str) -> dict[str, Any]:
        """Rendered project of one host; StackError where the program made none."""
        if host not in self.projects:
            raise StackError(f"stack {self.environment}: outputs hold no rendered project of host {host!r}")
        return self.projects[host]
