"""Configuration, and what of it is shown (CFG-1, SEC-4)."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from pathlib import Path

import pytest

from reference.agents_service import logs
from reference.agents_service.__main__ import main
from reference.agents_service.config import (
    ConfigurationError,
    Connection,
    MigrationSettings,
    OpenAISettings,
    Settings,
    SupabaseSettings,
    load,
)
from reference.agents_service.database import url
from tests.unit.reference_service.fakes import ENVIRONMENT

REQUIRED = [
    "OPENAI_API_KEY",
    "OPENAI_DEFAULT_MODEL",
    "OPENAI_LOW_COST_MODEL",
    "OPENAI_FAILOVER_MODEL",
    "AGENTS_MENU_VECTOR_STORE_ID",
    "AGENTS_ALLERGENS_VECTOR_STORE_ID",
    "AGENTS_POLICIES_VECTOR_STORE_ID",
    "SUPABASE_URL",
    "SUPABASE_SERVICE_ROLE_KEY",
    "DATABASE_URL",
    "OIDC_ISSUER",
    "OIDC_AUDIENCE",
    "WHATSAPP_VERIFY_TOKEN",
    "WHATSAPP_APP_SECRET",
]
SECRETS = [
    "OPENAI_API_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "DATABASE_URL",
    "WHATSAPP_VERIFY_TOKEN",
    "WHATSAPP_APP_SECRET",
    "METRICS_TOKEN",
]


def test_defaults_are_those_of_the_sources() -> None:
    settings = load(Settings)
    assert (settings.agent_session_budget_usd, settings.agent_daily_budget_usd) == (
        Decimal("0.75"),
        Decimal(50),
    )
    assert settings.otel_service_name == "icupa-agents-service"
    assert settings.oidc_audience == ("agents", "oauth2-proxy")


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError) as raised:
        load(Settings)
    assert sorted(raised.value.problems) == sorted(REQUIRED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_SESSION_BUDGET_USD", "much"),
        ("AGENT_SESSION_BUDGET_USD", "-1"),
        ("AGENT_SESSION_BUDGET_USD", "0"),
        ("AGENT_SESSION_BUDGET_USD", "51"),
        ("AGENT_DAILY_BUDGET_USD", "inf"),
        ("SUPABASE_URL", "supabase.test"),
        ("OIDC_ISSUER", "ftp://login.test"),
        ("OPENAI_DEFAULT_MODEL", "two words"),
        ("DATABASE_URL", "mysql://x/y"),
        ("DATABASE_URL", "x"),
        ("DATABASE_POOL_SIZE", "0"),
        ("FEATURE_AGENT_CHAT", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("LISTEN_PORT", "70000"),
        ("OIDC_AUDIENCE", ","),
    ],
)
def test_a_malformed_value_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load(Settings)
    assert list(raised.value.problems) == [name]


def test_malformed_and_missing_values_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PORT", "x")
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("WHATSAPP_APP_SECRET_FILE", "/nowhere")
    with pytest.raises(ConfigurationError) as raised:
        load(Settings)
    assert raised.value.problems == {
        "DATABASE_URL": "is missing (or give DATABASE_HOST and DATABASE_USER)",
        "LISTEN_PORT": raised.value.problems["LISTEN_PORT"],
        "OPENAI_API_KEY": "is missing",
        "WHATSAPP_APP_SECRET": "is given twice, also by WHATSAPP_APP_SECRET_FILE",
    }


def test_secrets_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-from-a-file\n")
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(file))
    assert load(Settings).openai_api_key.get_secret_value() == "sk-from-a-file"
    file.write_text("")
    with pytest.raises(ConfigurationError) as raised:
        load(Settings)
    assert "OPENAI_API_KEY_FILE" in raised.value.problems
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError) as raised:
        load(Settings)
    assert "OPENAI_API_KEY_FILE" in raised.value.problems


def test_the_database_may_be_given_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    for name, value in {
        "DATABASE_HOST": "postgres",
        "DATABASE_USER": "icupa_app",
        "DATABASE_PASSWORD": "p@ss/word",
        "DATABASE_OWNER_USER": "icupa_owner",
        "DATABASE_OWNER_PASSWORD": "owner",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load(MigrationSettings)
    application = settings.application()
    assert application == Connection("postgres", 5432, "agents", "icupa_app", "p@ss/word")
    assert "p@ss/word" not in repr(application)
    assert url(settings.owner()).render_as_string(hide_password=False) == (
        "postgresql+psycopg://icupa_owner:owner@postgres:5432/agents"
    )
    assert "p@ss/word" in load(Settings).secret_values()


def test_without_an_owner_the_application_migrates() -> None:
    settings = load(MigrationSettings)
    assert settings.owner() == settings.application()


@pytest.mark.parametrize("settings", [Settings, MigrationSettings, OpenAISettings, SupabaseSettings])
def test_secrets_are_not_in_what_is_printed(settings: type[Settings]) -> None:
    shown = f"{load(settings)!r} {load(settings)}"
    for name in SECRETS:
        assert ENVIRONMENT[name] not in shown


def test_a_command_with_a_bad_environment_ends_with_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in REQUIRED[1:]:
        monkeypatch.delenv(name)
    assert main(["serve"]) == 78
    shown = capsys.readouterr()
    assert shown.out == ""
    for name in REQUIRED[1:]:
        assert f"  {name}: is missing" in shown.err
    assert ENVIRONMENT["OPENAI_API_KEY"] not in shown.err


def test_logs_are_json_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", logs.Redactor(load(Settings).secret_values()))
    logs.get_logger().info(
        "ai.tool.create_voucher.success",
        text=f"key {ENVIRONMENT['SUPABASE_SERVICE_ROLE_KEY']}, card 4111-1111-1111-1111, Bearer abcdefgh",
        headers={"Authorization": "Basic x", "apikey": "y"},
        amount=10000,
        msisdn="+250788123456",
    )
    query = "GET /?hub.verify_token=abc&x=1 with %s"
    logging.getLogger("some.library").warning(query, "eyJhbGciOi.eyJzdWIi.c2ln")
    try:
        raise ValueError(ENVIRONMENT["OPENAI_API_KEY"])
    except ValueError:
        logs.get_logger().exception("failed")
    written = capsys.readouterr().out
    first, second, third = (json.loads(line) for line in written.splitlines())
    assert first["event"] == "ai.tool.create_voucher.success"
    assert first["text"] == "key [redacted], card [redacted], [redacted]"
    assert first["headers"] == {"Authorization": "[redacted]", "apikey": "[redacted]"}
    assert (first["amount"], first["msisdn"]) == (10000, "+250788123456")
    assert second["event"] == "GET /?hub.verify_token=[redacted]&x=1 with [redacted]"
    assert "ValueError: [redacted]" in third["exception"]
    for name in SECRETS:
        assert ENVIRONMENT[name] not in written


@pytest.mark.parametrize(
    ("digits", "expected"),
    [("4111111111111111", True), ("4111 1111 1111 1111", True), ("4111111111111112", False), ("123", False)],
)
def test_card_numbers_are_told_by_their_check_digit(digits: str, expected: bool) -> None:
    assert logs.is_card_number(digits) is expected
