"""The playbook, with the clock moved; on a controller without an identity: ages stand in clear."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.paths import REPOSITORY
from infra.procedures.verdict import ExitCode
from infra.record import Result
from infra.record.model import now
from infra.secretstore import open_store, sops
from tests.controller import STACK, Controller, outputs

PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "secrets_age.yml"
ACTIONS = Path(__file__).resolve().parent / "rollout" / "action"
CANARY = "canary-of-a-value-1234"


@pytest.fixture
def identity() -> dict[str, str]:
    """Environment of somebody who may read the values."""
    return {"SOPS_AGE_KEY": sops.new_identity()[0]}


@pytest.fixture
def controller(tmp_path: Path, identity: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Controller:
    """Its store holds two secrets, put there by somebody who has an identity; messages go to a file."""
    made = Controller(
        tmp_path,
        outputs({"url": f"file://{tmp_path}/record"}),
        {"ANSIBLE_ACTION_PLUGINS": f"{ACTIONS}:{REPOSITORY}/ansible/plugins/action"},
    )
    made.bootstrap()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("SOPS_AGE_KEY", identity["SOPS_AGE_KEY"])
        store = open_store({}, STACK, record=made.record.store)
        store.put_many({"openai-api-key": CANARY, "redis-password": CANARY, "otlp-token": CANARY}, by="ada")
    return made


def overdue_by_metric(file: Path) -> dict[str, float]:
    families = text_string_to_metric_families(file.read_text())
    return {
        sample.labels["secret"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "icupa_secret_overdue"
    }


def messages(controller: Controller) -> list[dict[str, object]]:
    file = controller.home / "messages"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def later(days: int) -> tuple[str, ...]:
    return ("-e", f"at={now() + timedelta(days=days, minutes=5):%Y-%m-%dT%H:%MZ}")


def test_nothing_is_overdue_at_first_and_all_that_ages_is_when_the_clock_moves(
    controller: Controller, identity: dict[str, str]
) -> None:
    file = controller.home / ".local" / "state" / "icupa" / STACK / "secrets.prom"
    young = controller.play(PLAYBOOK)
    assert young.returncode == ExitCode.OK, young.stdout
    assert "secrets-age: OK" in young.stdout
    assert "next due: openai-api-key" in young.stdout
    assert overdue_by_metric(file) == {"openai-api-key": 0, "redis-password": 0}
    assert messages(controller) == []

    old = controller.play(PLAYBOOK, *later(92), "-vvv", "--diff", environment=identity)
    assert old.returncode == ExitCode.FAILED, old.stdout
    assert "secrets-age: FAILED" in old.stdout
    assert "overdue: openai-api-key, redis-password" in " ".join(old.stdout.split())
    assert overdue_by_metric(file) == {"openai-api-key": 1, "redis-password": 1}
    (message,) = messages(controller)
    assert message["channel"] == "ops-ai"
    assert message["title"] == f"{STACK}: secrets overdue (2): openai-api-key, redis-password"
    assert message["facts"] == {
        "AI Platform": "openai-api-key (92 d, quarterly)",
        "DevOps": "redis-password (92 d, quarterly)",
    }
    *_, event = (each for each in controller.record.events() if each.action == "secrets-age.end")
    assert event.result is Result.FAILED
    assert event.details["overdue"] == ["openai-api-key", "redis-password"]
    assert controller.record.state().lock is None
    assert CANARY not in young.stdout + old.stdout + file.read_text()


def test_the_metric_goes_where_the_collector_of_the_machine_reads(controller: Controller) -> None:
    file = controller.home / "collector" / "icupa_secrets.prom"
    file.parent.mkdir()
    done = controller.play(PLAYBOOK, "-e", f"metrics_file={file}")
    assert done.returncode == ExitCode.OK, done.stdout
    assert set(overdue_by_metric(file)) == {"openai-api-key", "redis-password"}
    assert file.stat().st_mode & 0o777 == 0o644


def test_without_an_identity_the_overdue_are_named_all_the_same(controller: Controller) -> None:
    """But not in the record: what fails is kept there only where values can be taken out of it."""
    done = controller.play(PLAYBOOK, *later(92))
    assert done.returncode == ExitCode.FAILED, done.stdout
    assert "overdue: openai-api-key, 92 d old, quarterly" in done.stdout
    (message,) = messages(controller)
    assert "openai-api-key, redis-password" in str(message["title"])


def test_a_dry_run_names_the_overdue_and_writes_nothing(controller: Controller) -> None:
    before, files = controller.record.last_event(), set(controller.home.rglob("*.prom"))
    done = controller.play(PLAYBOOK, *later(92), "--check")
    assert done.returncode == ExitCode.FAILED, done.stdout
    assert "overdue: openai-api-key" in done.stdout
    assert "(check mode)" in done.stdout
    assert controller.record.last_event() == before
    assert set(controller.home.rglob("*.prom")) == files == set()
    assert messages(controller) == []


def test_a_moment_that_is_none_is_refused(controller: Controller) -> None:
    done = controller.play(PLAYBOOK, "-e", "at=soon")
    assert done.returncode == ExitCode.FAILED
    assert "'soon' is no moment" in " ".join(done.stdout.split())
    assert list(controller.home.rglob("*.prom")) == []
