"""Ages against periods, by a clock that tests move; what the commands tell of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from infra.record.directory import DirectoryStore
from infra.secrets.catalogue import CATALOGUE, Period
from infra.secretstore import SopsStore, ages, open_store
from infra.secretstore.__main__ import ExitCode, main
from infra.secretstore.errors import SecretStoreError
from infra.secretstore.store import OBJECT, Entry

SET = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
QUARTER = timedelta(days=91)


def entry(name: str, created_at: datetime = SET) -> Entry:
    return Entry(name, created_at, "ada")


ENTRIES = {name: entry(name) for name in ("openai-api-key", "oauth-client-secret", "otlp-token")}


def overdue(at: datetime) -> list[str]:
    return [age.name for age in ages.ages(ENTRIES, at) if age.overdue]


def test_a_secret_is_overdue_once_its_period_is_over() -> None:
    assert overdue(SET + QUARTER) == []
    assert overdue(SET + QUARTER + timedelta(seconds=1)) == ["openai-api-key"]
    assert overdue(SET + timedelta(days=366)) == ["openai-api-key", "oauth-client-secret"]
    assert overdue(SET + timedelta(days=36500)) == ["openai-api-key", "oauth-client-secret"]


def test_what_is_due_next_comes_first_and_what_never_is_last() -> None:
    found = ages.ages(ENTRIES, SET + timedelta(days=10))
    assert [(age.name, age.due, age.days) for age in found] == [
        ("openai-api-key", SET + QUARTER, 10),
        ("oauth-client-secret", SET + timedelta(days=365), 10),
        ("otlp-token", None, 10),
    ]


def samples(at: datetime) -> dict[tuple[str, str], float]:
    text = ages.metrics(ages.ages(ENTRIES, at), "production", at)
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.labels["environment"] for sample in found} == {"production"}
    return {(sample.name, sample.labels.get("secret", "")): sample.value for sample in found}


def test_the_metric_shows_what_is_overdue_when_the_clock_moves() -> None:
    name = "icupa_secret_overdue"
    before, after = samples(SET), samples(SET + timedelta(days=100))
    assert (before[name, "openai-api-key"], after[name, "openai-api-key"]) == (0, 1)
    assert (before[name, "oauth-client-secret"], after[name, "oauth-client-secret"]) == (0, 0)
    for shown in (before, after):
        assert shown["icupa_secret_created_timestamp_seconds", "otlp-token"] == SET.timestamp()
        assert shown["icupa_secret_due_timestamp_seconds", "openai-api-key"] == (SET + QUARTER).timestamp()
        assert (name, "otlp-token") not in shown
    checked = "icupa_secrets_checked_timestamp_seconds"
    assert after[checked, ""] - before[checked, ""] == timedelta(days=100).total_seconds()


def test_owners_are_told_of_theirs() -> None:
    assert ages.by_owner(ages.ages(ENTRIES, SET)) == {}
    assert ages.by_owner(ages.ages(ENTRIES, SET + timedelta(days=400))) == {
        "AI Platform": "openai-api-key (400 d, quarterly)",
        "DevOps": "oauth-client-secret (400 d, yearly)",
    }


@pytest.mark.parametrize("text", ["tomorrow", "2027-03-01", "2027-03-01T00:00"])
def test_a_moment_needs_a_time_zone(text: str) -> None:
    with pytest.raises(SecretStoreError, match="is no moment; accepted: 2027-03-01T00:00Z"):
        ages.moment(text)
    assert ages.moment("2027-03-01T01:00+01:00") == datetime(2027, 3, 1, tzinfo=UTC)


def test_missing_are_those_that_the_environment_could_have() -> None:
    absent = ages.missing(ENTRIES, "production")
    assert "redis-password" in absent
    assert not {"openai-api-key", "world-ca-key"} & set(absent)
    assert "world-ca-key" in ages.missing(ENTRIES, "local")


def test_the_same_value_keeps_its_age_and_another_one_does_not(
    store: SopsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return SET

    with monkeypatch.context() as past:
        past.setattr("infra.secretstore.store.datetime", Clock)
        store.put("redis-password", "first", by="ada")
    store.put("redis-password", "first", by="bob")
    assert store.entries()["redis-password"] == entry("redis-password")
    store.put("redis-password", "second", by="bob")
    assert store.entries()["redis-password"].by == "bob"
    assert store.entries()["redis-password"].created_at > SET


@pytest.fixture
def options(store: SopsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options for a store with two secrets; whoever asks has no identity."""
    store.put_many({"openai-api-key": "sk-canary-1234", "otlp-token": "canary-5678"}, by="ada")
    monkeypatch.delenv("SOPS_AGE_KEY_FILE")
    return ["--stack", "production", "--url", f"file://{tmp_path}/record"]


def test_the_command_names_the_overdue_and_says_so_by_its_exit_code(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ages", *options]) == ExitCode.OK
    assert "overdue: none" in capsys.readouterr().out

    later = f"{datetime.now(UTC) + timedelta(days=92, minutes=5):%Y-%m-%dT%H:%MZ}"
    assert main(["ages", *options, "--at", later]) == 3
    assert "overdue: openai-api-key\n" in capsys.readouterr().out

    assert main(["ages", *options, "--at", later, "--json"]) == ExitCode.OVERDUE
    said = json.loads(capsys.readouterr().out)
    assert said["overdue"] == ["openai-api-key"]
    first, last = said["secrets"]
    assert (first["name"], first["age_days"], first["by"], first["overdue"]) == (
        "openai-api-key",
        92,
        "ada",
        True,
    )
    assert (last["name"], last["due"], last["period"]) == ("otlp-token", None, Period.NONE.value)
    assert "redis-password" in said["not_set"]

    assert main(["ages", *options, "--at", "soon"]) == ExitCode.FAILED
    assert "'soon' is no moment" in capsys.readouterr().err


def test_where_tells_all_but_the_value(
    options: list[str], directory: DirectoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    # A value that a year ago was young: the clear part of the file is what counts.
    document = yaml.safe_load(directory.get(OBJECT).data)
    document["secrets"]["openai-api-key"]["created_at"] = "2025-01-01T00:00:00+00:00"
    stored = directory.get(OBJECT)
    directory.put_if_match(OBJECT, yaml.safe_dump(document).encode(), stored.version)

    assert main(["where", "openai-api-key", *options]) == ExitCode.OK
    said = capsys.readouterr().out
    for part in (
        "secrets.sops.yaml: wins, because --url names it",
        "2025-01-01 by ada,",
        "2025-04-02, OVERDUE",
        "AI Platform",
        "(driver openai)",
        "Supabase functions",
        CATALOGUE["openai-api-key"].rotation.revoked,
        f"yes: {CATALOGUE['openai-api-key'].rotation.overlap.how}",
    ):
        assert part in said
    assert "canary" not in said

    assert main(["where", "redis-password", *options]) == ExitCode.OK
    assert "not set: python -m infra.secretstore set redis-password" in capsys.readouterr().out
    assert open_store({}, "production", record=directory).entries()["otlp-token"].by == "ada"
