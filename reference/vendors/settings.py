"""What the double is made of: settings (not secret), and the seed with the first valid keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Model):
    """USD for a million tokens."""

    input: float
    output: float


class OpenAISettings(_Model):
    """`project` owns the first keys; `vector_stores` exist from the start, id to name."""

    project: str
    models: dict[str, Price]
    vector_stores: dict[str, str] = {}
    token_seconds: Annotated[float, Field(ge=0)] = 0.02
    """Time between two pieces of a streamed answer."""


class Table(_Model):
    """A table behind PostgREST; `key` columns are unique together."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    defaults: dict[str, bool | str | int | None] = {}


class SupabaseSettings(_Model):
    """One project."""

    project: str
    tables: dict[str, Table]


class VercelSettings(_Model):
    """Projects by id, with their name."""

    projects: dict[str, str]


class SlackSettings(_Model):
    """Channels that the bot is in, without `#`."""

    team: str
    channels: tuple[str, ...]


class PagerDutySettings(_Model):
    """The service that the routing keys belong to."""

    service: str


class StatuspageSettings(_Model):
    """One page with its components."""

    page: str
    components: tuple[str, ...]


class Settings(_Model):
    """Everything but secrets."""

    port: int = 443
    control_port: int = 9000
    certificate: Path
    key: Path
    database: Path
    openai: OpenAISettings
    supabase: SupabaseSettings
    vercel: VercelSettings
    slack: SlackSettings
    pagerduty: PagerDutySettings
    statuspage: StatuspageSettings


class OpenAISeed(_Model):
    """Keys of projects and administrators."""

    api_keys: tuple[str, ...]
    admin_keys: tuple[str, ...]


class SupabaseSeed(_Model):
    """Keys of the data API and tokens of the management API."""

    service_role_keys: tuple[str, ...]
    management_tokens: tuple[str, ...]


class TokenSeed(_Model):
    """Tokens of one API."""

    tokens: tuple[str, ...]


class SlackSeed(TokenSeed):
    """Bot tokens, and the secret paths of incoming webhooks (`T…/B…/…`) with their channel."""

    webhooks: dict[str, str] = {}


class PagerDutySeed(_Model):
    """Keys of the events API, and tokens of the REST API."""

    routing_keys: tuple[str, ...]
    tokens: tuple[str, ...] = ()


class Seed(_Model):
    """The first valid keys: read once, when the database is new."""

    openai: OpenAISeed
    supabase: SupabaseSeed
    vercel: TokenSeed
    slack: SlackSeed
    pagerduty: PagerDutySeed
    statuspage: TokenSeed
