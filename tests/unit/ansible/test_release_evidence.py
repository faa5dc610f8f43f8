"""Evidence of a failed release: what is collected of its containers, and that no secret is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.procedures.wording import redacted
from infra.record import evidence
from infra.record.directory import DirectoryStore
from infra.secretstore.redaction import redaction
from tests.unit.ansible.conftest import load_plugin

module = load_plugin("modules", "release_evidence")
action = load_plugin("action", "release_evidence")
INSPECTED = {
    "Id": "1",
    "Created": "2026-01-02T03:04:05Z",
    "RestartCount": 2,
    "Config": {
        "Labels": {"com.docker.compose.service": "agents-green"},
        "Image": "registry/agents@sha256:1",
        "Env": ["OPENAI_API_KEY=a-very-secret-value"],
    },
    "State": {"Status": "restarting", "ExitCode": 1, "Health": {"Status": "unhealthy", "Log": []}},
}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """An engine with one container; what it was asked."""
    asked: list[tuple[str, ...]] = []

    def docker(*arguments: str) -> str:
        asked.append(arguments)
        return {"ps": "1\n", "inspect": json.dumps([INSPECTED])}.get(arguments[0], "first line\nlast line\n")

    monkeypatch.setattr(module, "docker", docker)
    return asked


def test_state_health_and_log_are_kept_and_the_environment_is_not(engine: list[tuple[str, ...]]) -> None:
    (found,) = module.containers("agents-service", ["agents-green"], 200)
    assert (found["service"], found["restarts"]) == ("agents-green", 2)
    assert found["state"] == {"Status": "restarting", "ExitCode": 1}
    assert found["health"]["Status"] == "unhealthy"
    assert found["log"] == ["first line", "last line"]
    assert "a-very-secret-value" not in json.dumps(found)
    assert engine[-1] == ("logs", "--timestamps", "--tail", "200", "1")


def test_only_the_named_services_are_asked_for(engine: list[tuple[str, ...]]) -> None:
    module.containers("agents-service", ["agents-green", "migrate-green"], 200)
    listed = [" ".join(arguments) for arguments in engine if arguments[0] == "ps"]
    assert [line.rpartition("=")[2] for line in listed] == ["agents-green", "migrate-green"]


def test_values_of_secrets_are_taken_out_at_any_depth() -> None:
    document: dict[str, Any] = {"log": ["key a-very-secret-value"], "health": {"Log": [{"Output": "fine"}]}}
    found = redacted(document, redaction({"openai-api-key": "a-very-secret-value"}))
    assert found == {"log": ["key (secret openai-api-key)"], "health": {"Log": [{"Output": "fine"}]}}


@pytest.mark.parametrize("lines", [["x" * 20_000] * 200, ['"' * 3900] * 200, ["ä" * 3900] * 200])
def test_a_service_that_says_much_is_evidence_all_the_same(tmp_path: Path, lines: list[str]) -> None:
    containers = [{"service": name, "log": [*lines, "the last words"]} for name in ("agents", "migrate")]
    document = {"host": "primary", "containers": action.fitting(containers)}
    saved = evidence.put(
        DirectoryStore(tmp_path), "deploy-1", "primary.json", json.dumps(document, indent=2).encode()
    )
    assert saved.size > evidence.LARGEST // 8
    for container in document["containers"]:
        assert container["log"][-1] == "the last words"
        assert "lines before these were left out" in container["log"][0]
