"""`make render`: a file for each cluster, without values of secrets; values on standard output only."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.config.load import load_file
from infra.outputs.model import StackError, StackOutputs
from infra.record import open_record
from infra.render import __main__ as command
from infra.render import state as states
from infra.render.__main__ import main
from infra.render.state import StateError, gather_state
from infra.runtimes import compose
from infra.runtimes.kubernetes import Manifest
from infra.secrets.catalogue import CATALOGUE
from infra.secretstore.store import Entry
from infra.services.context import Context
from infra.services.topology import topology
from infra.site.runtime import first_release
from tests.unit.runtimes.clusters import IMAGES, find, pod_specs, state

SWITCHES = dict(state().switches)
DIGEST = f"sha256:{'4' * 64}"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    file = tmp_path / "state.json"
    write(file)
    return file


def write(file: Path, **changes: Any) -> None:
    known = state()
    document = {
        "release": known.release,
        "images": dict(known.images),
        "switches": SWITCHES,
        "secrets": dict(known.secrets),
    }
    file.write_text(json.dumps({**document, **changes}))


def documents(file: Path) -> list[Manifest]:
    return list(yaml.load_all(file.read_text(), yaml.CSafeLoader))


@pytest.mark.parametrize("stack", ["staging", "production"])
def test_each_cluster_has_a_file(
    stack: str, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--stack", stack, "--state", str(given), "--output", str(tmp_path / "out")]) == 0
    written = {
        str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()
    }
    assert written == {f"{stack}/agents-service.yaml", f"{stack}/agents-service-fra1.yaml"}
    assert capsys.readouterr().out.count(" objects for context do-") == len(written)
    primary, standby = (tmp_path / "out" / name for name in sorted(written, reverse=True))
    assert "--context do-ams3-" in primary.read_text()
    regions = [
        find(documents(file), "ConfigMap", "agents-env")["data"]["REGION"] for file in (primary, standby)
    ]
    assert regions == ["ams3", "fra1"]
    secrets = [item for item in documents(primary) if item["kind"] == "Secret"]
    assert all("${secret:" in text for item in secrets for text in item["stringData"].values())


def test_rendering_again_changes_nothing(given: Path, tmp_path: Path) -> None:
    texts = []
    for _ in range(2):
        assert main(["--stack", "production", "--state", str(given), "--output", str(tmp_path)]) == 0
        texts.append((tmp_path / "production" / "agents-service.yaml").read_text())
    assert texts[0] == texts[1]


WRONG: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "stack": (["--stack", "nowhere"], {}, "one of local, production, staging"),
    "region": (["--stack", "production", "--resolve", "ams1"], {}, "--resolve ams1: accepted: ams3, fra1"),
    "tag": (["--stack", "production"], {"release": "a:latest"}, "release: String should match pattern"),
    "unknown field": (["--stack", "production"], {"digest": "x"}, "digest: Extra inputs are not permitted"),
    "missing image": (["--stack", "production"], {"images": {}}, "traefik has no image traefik"),
    "text for a switch": (
        ["--stack", "production"],
        {"switches": {**SWITCHES, "AI_REALTIME_ENABLED": "yes"}},
        "switches.AI_REALTIME_ENABLED: Input should be a valid boolean",
    ),
}


@pytest.mark.parametrize(("arguments", "changes", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_and_nothing_is_written(
    arguments: list[str],
    changes: dict[str, Any],
    said: str,
    given: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(given, **changes)
    out = given.parent / "out"
    assert main([*arguments, "--state", str(given), "--output", str(out)]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_state_that_is_no_mapping_is_refused(
    text: str, given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given.write_text(text)
    assert main(["--stack", "production", "--state", str(given)]) == 1
    assert "it is a mapping with release, images, switches, secrets, maintenance" in capsys.readouterr().err


def test_a_state_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", "production", "--state", str(tmp_path / "none")]) == 1
    assert "none: No such file" in capsys.readouterr().err


def test_a_stack_that_is_not_up_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(stack: str) -> StackOutputs:
        raise StackError(f"no stack named {stack!r}")

    monkeypatch.setattr(command, "read_outputs", none)
    assert main(["--stack", "production"]) == 1
    assert "no stack named 'production'" in capsys.readouterr().err


def test_values_go_to_standard_output_only(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def open_resolver(driver: object, stack: str, where: object, texts: list[str]) -> Any:
        del driver, where
        assert stack == "production"
        asked.extend(texts)
        return lambda text: (
            text.replace("${secret:", 'va"lue-').replace("}", "") if "${secret:" in text else text
        )

    monkeypatch.setattr(command, "open_resolver", open_resolver)
    arguments = ["--stack", "production", "--state", str(given), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--resolve", "ams3"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert not (tmp_path / "out").exists()
    assert len(asked) == sum(len(item["stringData"]) for item in printed if item["kind"] == "Secret") > 10
    environment = find(printed, "Secret", "agents-env")["stringData"]
    assert environment["OPENAI_API_KEY"] == 'va"lue-openai-api-key'
    login = json.loads(find(printed, "Secret", "registry", "auth")["stringData"][".dockerconfigjson"])
    assert login["auths"]["ghcr.io"] == {"username": "icupa-bot", "password": 'va"lue-registry-password'}


# --- what the state is gathered from


class Store:
    """Secrets of a store, without values."""

    def entries(self) -> dict[str, Entry]:
        at = datetime(2026, 1, 2, tzinfo=UTC)
        return {name: Entry(name, at, "alice") for name in CATALOGUE}


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackOutputs:
    stack = load_file("production")
    machine = stack.hosts.machines[0]
    project = compose.render(
        topology(Context("production", stack, machine.region, machine.role)), state().images
    )
    dumped = stack.model_dump(mode="json")
    monkeypatch.setattr(states, "open_store", lambda *_, **__: Store())
    host = {"address": "203.0.113.7", "user": "ops", "host_key": "ssh-ed25519 AAAA"}
    return StackOutputs.model_validate(
        {
            "environment": "production",
            "domain": stack.domain,
            "hosts": [{**host, "name": "primary", "region": "ams3", "role": "primary"}],
            "record": {"url": (tmp_path / "record").as_uri()},
            "secretstore": {"driver": "sops"},
            "release": {"image": "ghcr.io/icupa/agents-service", "digest": DIGEST, "git_sha": "abc"},
            "projects": {"primary": project},
            "settings": {
                **{key: dumped[key] for key in ("registry", "resolvers", "dns", "acme", "login", "switches")},
                "trust": [],
                "supabase": dumped["supabase"],
                "certificate_names": [stack.domain],
                "edge": {"subnet": "10.0.0.0/24", "proxy": "10.0.0.2"},
            },
        }
    )


def test_before_the_first_deploy_it_is_what_the_program_built(outputs: StackOutputs) -> None:
    found = gather_state(outputs)
    assert found.release == f"ghcr.io/icupa/agents-service@{DIGEST}"
    assert found.images == dict(state().images)
    assert found.images.keys() == set(IMAGES)
    assert found.switches == dict.fromkeys(SWITCHES, True)
    assert found.secrets["openai-api-key"] == "2026-01-02T00:00:00+00:00"
    assert found.maintenance is False


def test_afterwards_it_is_what_the_record_says(
    outputs: StackOutputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "read_outputs", lambda _: outputs)
    first = gather_state(outputs)
    record = open_record(outputs.record)
    release = first_release(outputs).model_copy(update={"digest": f"sha256:{'5' * 64}"})
    record.bootstrap(
        release=release,
        hosts=["primary"],
        switches={**SWITCHES, "FEATURE_AGENT_VOICE": False},
        active_region="ams3",
        active_host="primary",
        who="bootstrap",
    )
    found = gather_state(outputs)
    assert first.release != found.release == f"ghcr.io/icupa/agents-service@sha256:{'5' * 64}"
    assert found.switches["FEATURE_AGENT_VOICE"] is False
    assert main(["--stack", "production", "--output", str(tmp_path)]) == 0
    rendered = documents(tmp_path / "production" / "agents-service.yaml")
    assert pod_specs(rendered)["agents"]["containers"][0]["image"] == found.release
    assert find(rendered, "ConfigMap", "agents-switches")["data"]["FEATURE_AGENT_VOICE"] == "false"


def test_a_record_that_can_not_be_read_is_said(outputs: StackOutputs, tmp_path: Path) -> None:
    gather_state(outputs)
    events = tmp_path / "record" / "events"
    events.mkdir(parents=True)
    (tmp_path / "record" / "state.json").write_text("{")
    with pytest.raises(StateError, match="the record of production can't be read"):
        gather_state(outputs)
