"""Configuration from the environment (CFG-1, CFG-2).

Every secret `X` may also come as `X_FILE`, the path of a file that holds it. Each command loads only the
settings that it needs. Values are never part of an error message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from . import SERVICE_NAME
from .errors import CommandError

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

SWITCHES = (
    "AI_REALTIME_ENABLED",
    "AI_RESPONSES_ENABLED",
    "WHATSAPP_INTEGRATION_ENABLED",
    "FEATURE_AGENT_CHAT",
    "FEATURE_AGENT_VOICE",
    "FEATURE_AGENT_VOUCHERS",
)


class ConfigurationError(CommandError):
    """All that is wrong with the environment, one line a variable."""

    status = 78  # sysexits.h: configuration error

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(sorted(problems.items()))
        lines = "\n".join(f"  {name}: {problem}" for name, problem in self.problems.items())
        super().__init__(f"configuration is not usable:\n{lines}")


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    return value.rstrip("/")


def _words(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words), Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=200)]
Usd = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=6)]


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in repr(field.annotation)


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads `X_FILE` for every secret X that is not given directly."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if not path or not _is_secret(field):
            return None, field_name, False
        return _read_secret(path), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def _read_secret(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        return None


class _Base(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SecretFiles(settings_cls)


@dataclass(frozen=True)
class Connection:
    """How to connect to PostgreSQL; `options` are further parameters of libpq."""

    host: str | None
    port: int | None
    database: str | None
    user: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, str | Sequence[str]] = field(default_factory=dict, repr=False)


class DatabaseSettings(_Base):
    """PostgreSQL as the application role: one URL, or its parts."""

    database_url: SecretStr | None = None
    database_host: str | None = None
    database_port: int = Field(default=5432, gt=0, lt=65536)
    database_name: str = "agents"
    database_user: str | None = None
    database_password: SecretStr | None = None
    database_pool_size: int = Field(default=20, ge=1, le=200)
    database_connect_timeout_seconds: int = Field(default=3, ge=1, le=60)

    @model_validator(mode="after")
    def _one_way_to_connect(self) -> Self:
        if self.database_url is not None:
            _of_url("DATABASE_URL", self.database_url)
        elif not self.database_host or not self.database_user:
            raise ValueError("DATABASE_URL: is missing (or give DATABASE_HOST and DATABASE_USER)")
        return self

    def application(self) -> Connection:
        """Return how to connect as the application role."""
        if self.database_url is not None:
            return _of_url("DATABASE_URL", self.database_url)
        return Connection(
            host=self.database_host,
            port=self.database_port,
            database=self.database_name,
            user=self.database_user,
            password=_value(self.database_password),
        )


class MigrationSettings(DatabaseSettings):
    """PostgreSQL as the owner of the schema, who is somebody else than the application."""

    database_owner_url: SecretStr | None = None
    database_owner_user: str | None = None
    database_owner_password: SecretStr | None = None
    migration_lock_timeout_seconds: int = Field(default=120, ge=1, le=3600)

    @model_validator(mode="after")
    def _owner_can_connect(self) -> Self:
        if self.database_owner_url is not None:
            _of_url("DATABASE_OWNER_URL", self.database_owner_url)
        return self

    def owner(self) -> Connection:
        """Return how to connect as the schema's owner; as the application role where no owner is named."""
        if self.database_owner_url is not None:
            return _of_url("DATABASE_OWNER_URL", self.database_owner_url)
        if self.database_owner_user is None:
            return self.application()
        password = _value(self.database_owner_password)
        return replace(self.application(), user=self.database_owner_user, password=password)


def _value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _of_url(variable: str, secret: SecretStr) -> Connection:
    # Where the parts are given, most commands need nothing else of SQLAlchemy, which takes long to import.
    from sqlalchemy import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        url = make_url(secret.get_secret_value())
    except ArgumentError:
        raise ValueError(f"{variable}: must be a postgresql:// URL") from None
    if not url.drivername.startswith("postgres"):
        raise ValueError(f"{variable}: must be a postgresql:// URL")
    return Connection(url.host, url.port, url.database, url.username, url.password, url.query)


class SupabaseSettings(_Base):
    """The Supabase project that holds the feature flags."""

    supabase_url: HttpUrl
    supabase_service_role_key: Secret
    supabase_timeout_seconds: float = Field(default=5, gt=0, le=60)


class OpenAISettings(_Base):
    """The model API and what it may be used for."""

    openai_api_key: Secret
    openai_base_url: HttpUrl = "https://api.openai.com/v1"
    openai_default_model: Identifier
    openai_low_cost_model: Identifier
    openai_failover_model: Identifier
    openai_responses_model: Identifier | None = None
    openai_timeout_seconds: float = Field(default=30, gt=0, le=600)
    agents_menu_vector_store_id: Identifier
    agents_allergens_vector_store_id: Identifier
    agents_policies_vector_store_id: Identifier

    def vector_stores(self) -> dict[str, str]:
        """Return the vector stores by what is in them."""
        return {
            "menu": self.agents_menu_vector_store_id,
            "allergens": self.agents_allergens_vector_store_id,
            "policies": self.agents_policies_vector_store_id,
        }


class OidcSettings(_Base):
    """Who issues bearer tokens, and for whom they must be meant."""

    oidc_issuer: HttpUrl
    oidc_audience: Words
    oidc_jwks_url: HttpUrl | None = None
    oidc_ca_file: Path | None = None
    oidc_tenant_group_claim: str = "tenant_group"


class TelemetrySettings(_Base):
    """OpenTelemetry; without an endpoint there is none (002 §5)."""

    otel_exporter_otlp_endpoint: HttpUrl | None = None
    otel_exporter_otlp_headers: SecretStr | None = None
    otel_service_name: str = SERVICE_NAME
    log_level: Annotated[str, Field(pattern=r"^(debug|info|warning|error)$")] = "info"
    git_sha: str = "unknown"
    environment: str = "unknown"
    region: str = "unknown"


class Settings(DatabaseSettings, SupabaseSettings, OpenAISettings, OidcSettings, TelemetrySettings):
    """Everything that the server needs."""

    listen_host: str = "0.0.0.0"  # noqa: S104 - a container's port is published by its runtime
    listen_port: int = Field(default=8080, gt=0, lt=65536)
    agent_session_budget_usd: Usd = Decimal("0.75")
    agent_daily_budget_usd: Usd = Decimal("50")
    agent_low_cost_ratio: Decimal = Field(default=Decimal("0.8"), gt=0, le=1)
    agent_max_output_tokens: int = Field(default=800, ge=16, le=32_000)
    whatsapp_verify_token: Secret
    whatsapp_app_secret: Secret
    metrics_token: SecretStr | None = None
    redis_url: SecretStr | None = None
    rate_limit_per_minute: int = Field(default=120, ge=1)
    drain_grace_seconds: float = Field(default=5, ge=0, le=300)
    drain_seconds: float = Field(default=30, ge=0, le=3600)
    switches_file: Path | None = None
    ai_realtime_enabled: bool = True
    ai_responses_enabled: bool = True
    whatsapp_integration_enabled: bool = True
    feature_agent_chat: bool = True
    feature_agent_voice: bool = True
    feature_agent_vouchers: bool = True

    @model_validator(mode="after")
    def _session_within_day(self) -> Self:
        if self.agent_session_budget_usd > self.agent_daily_budget_usd:
            raise ValueError("AGENT_SESSION_BUDGET_USD: must not be more than AGENT_DAILY_BUDGET_USD")
        return self

    def secret_values(self) -> frozenset[str]:
        """Return every secret's value, so that logs can be kept free of them."""
        values = {v.get_secret_value() for v in dict(self).values() if isinstance(v, SecretStr)}
        password = self.application().password
        return frozenset(v for v in values | ({password} if password else set()) if v)


def load(settings: type[SettingsT]) -> SettingsT:
    """Load settings from the environment, or raise one ConfigurationError that names all that is wrong."""
    problems = _secret_file_problems(settings)
    # Each part by itself too: what concerns several variables is checked only where each of them is fine.
    parts = [part for part in settings.__mro__ if issubclass(part, _Base) and part is not _Base]
    for part in reversed(parts):
        try:
            loaded = part()
        except ValidationError as error:
            for detail in error.errors(include_input=False, include_url=False):
                name, problem = _explain(detail["loc"], detail["type"], detail["msg"])
                problems.setdefault(name, problem)
    if problems or not isinstance(loaded, settings):
        raise ConfigurationError(problems)
    return loaded


def _explain(location: tuple[int | str, ...], kind: str, message: str) -> tuple[str, str]:
    if location:
        problem = "is missing" if kind == "missing" else message.removeprefix("Value error, ")
        return str(location[0]).upper(), problem
    name, _, problem = message.removeprefix("Value error, ").partition(": ")
    return name, problem


def _secret_file_problems(settings: type[BaseSettings]) -> dict[str, str]:
    problems = {}
    for name, setting in settings.model_fields.items():
        variable = name.upper()
        path = os.environ.get(f"{variable}_FILE")
        if not path or not _is_secret(setting):
            continue
        if os.environ.get(variable):
            problems[variable] = f"is given twice, also by {variable}_FILE"
        elif _read_secret(path) is None:
            problems[f"{variable}_FILE"] = f"cannot read {path}"
        elif not _read_secret(path):
            problems[f"{variable}_FILE"] = f"{path} is empty"
    return problems
