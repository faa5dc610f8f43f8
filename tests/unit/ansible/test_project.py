"""A host's files, from the rendered project, the record and secrets."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from infra.secrets import references
from infra.services.model import Slot
from infra.site.project import (
    CONFIGURATION_LABEL,
    HostProject,
    Owner,
    ProjectError,
    host_project,
    project_texts,
    readers,
    registry_login,
)
from infra.site.runtime import HostRuntime

OWNER = Owner(10000, 10000)


def resolve(text: str, values: dict[str, str] | None = None) -> str:
    return references.resolve(text, lambda name: (values or {}).get(name, f"value-of-{name}"))


def made(project: dict[str, Any], runtime: HostRuntime, **values: str) -> HostProject:
    return host_project(project, runtime, OWNER, lambda text: resolve(text, values))


def content(found: HostProject, path: str) -> str:
    return next(entry.content for entry in found.files if entry.path == path)


def outdated(before: HostProject, after: HostProject) -> set[str]:
    return {
        name
        for name, state in after.services.items()
        if before.services[name].configuration != state.configuration
    }


def test_makes_the_three_env_files_private(project: dict[str, Any], runtime: HostRuntime) -> None:
    files = {entry.path: entry for entry in made(project, runtime).files}
    for name in (".env", "agents-service.env", "oauth2-proxy.env"):
        assert (files[name].mode, files[name].uid, files[name].gid) == (0o600, 10000, 10000)


def test_no_reference_is_left_and_none_reaches_the_compose_file(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    found = made(project, runtime)
    assert len(project_texts(project)) > 50
    assert not [entry.path for entry in found.files if references.find(entry.content)]
    assert "value-of-" not in content(found, "compose.yaml")
    assert "OPENAI_API_KEY=value-of-openai-api-key\n" in content(found, "agents-service.env")


def test_takes_runtime_state_from_the_record(project: dict[str, Any], runtime: HostRuntime) -> None:
    switches = {**runtime.switches, "FEATURE_AGENT_CHAT": "false"}
    green = {"active_slot": Slot.GREEN, "running": (Slot.GREEN,), "switches": switches}
    found = made(project, runtime.model_copy(update=green))
    assert "COMPOSE_PROFILES=green\n" in content(found, ".env")
    assert f"AGENTS_IMAGE_GREEN={runtime.images[Slot.GREEN]}\n" in content(found, ".env")
    assert "FEATURE_AGENT_CHAT=false\n" in content(found, "agents-service.env")
    assert {"agents-green", "migrate-green"} <= set(found.services)
    assert found.idle == ["agents-blue", "migrate-blue"]
    assert runtime.images[Slot.GREEN] in found.images
    assert runtime.images[Slot.BLUE] not in found.images


def test_both_slots_run_while_one_takes_over_from_the_other(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    found = made(project, runtime.model_copy(update={"running": (Slot.BLUE, Slot.GREEN)}))
    assert "COMPOSE_PROFILES=blue,green\n" in content(found, ".env")
    assert {"agents-blue", "migrate-blue", "agents-green", "migrate-green"} <= set(found.services)
    assert found.idle == []
    assert set(runtime.images.values()) <= set(found.images)
    assert outdated(found, made(project, runtime)) == set()


def test_migrations_are_a_job(project: dict[str, Any], runtime: HostRuntime) -> None:
    found = made(project, runtime)
    assert {name for name, state in found.services.items() if state.job} == {"migrate-blue"}


def test_labels_each_service_with_its_configuration(project: dict[str, Any], runtime: HostRuntime) -> None:
    found = made(project, runtime)
    services = yaml.safe_load(content(found, "compose.yaml"))["services"]
    labels = {name: service["labels"][CONFIGURATION_LABEL] for name, service in services.items()}
    assert {name: labels[name] for name in found.services} == {
        name: state.configuration for name, state in found.services.items()
    }


def test_a_changed_secret_makes_its_readers_outdated_and_nobody_else(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    before = made(project, runtime)
    assert outdated(before, made(project, runtime, **{"openai-api-key": "new"})) == {"agents-blue"}
    assert outdated(before, made(project, runtime, **{"otlp-token": "new"})) == {"otel-collector"}
    assert outdated(before, made(project, runtime, **{"tsig-acme": "new"})) == {"traefik"}


def test_a_changed_image_of_the_idle_slot_makes_nothing_outdated(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    images = {**runtime.images, Slot.GREEN: f"other@sha256:{'3' * 64}"}
    changed = runtime.model_copy(update={"images": images})
    assert outdated(made(project, runtime), made(project, changed)) == set()


def test_a_flipped_switch_takes_effect_without_a_restart(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    switches = {**runtime.switches, "FEATURE_AGENT_CHAT": "false"}
    flipped = made(project, runtime.model_copy(update={"switches": switches}))
    assert "FEATURE_AGENT_CHAT=false\n" in content(flipped, "switches/switches.env")
    assert outdated(made(project, runtime), flipped) == set()


def test_a_file_in_a_watched_directory_makes_nothing_outdated(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    changed = copy.deepcopy(project)
    watched = [entry for entry in changed["files"] if entry["path"].startswith("traefik/dynamic/")]
    assert watched
    watched[0]["content"] += "# more\n"
    assert outdated(made(project, runtime), made(changed, runtime)) == set()


def test_a_mounted_file_makes_its_service_outdated(project: dict[str, Any], runtime: HostRuntime) -> None:
    changed = copy.deepcopy(project)
    next(entry for entry in changed["files"] if entry["path"] == "traefik/traefik.yml")["content"] += (
        "# more\n"
    )
    assert outdated(made(project, runtime), made(changed, runtime)) == {"traefik"}


def test_masks_variables_with_secrets_and_hides_secret_files(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    files = {entry.path: entry for entry in made(project, runtime).files}
    masked = files["agents-service.env"].masked
    assert masked is not None
    assert {"OPENAI_API_KEY", "REDIS_URL", "DATABASE_PASSWORD"} <= set(masked)
    assert "AGENT_SESSION_BUDGET_USD" not in masked
    shown = [entry.path for entry in files.values() if "value-of-" in entry.content and not entry.hidden]
    assert all(files[path].masked for path in shown)


def test_contents_stay_out_of_messages(project: dict[str, Any], runtime: HostRuntime) -> None:
    assert "value-of-" not in repr(made(project, runtime))


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "a/../../b", "."])
def test_refuses_paths_outside_the_project(project: dict[str, Any], runtime: HostRuntime, path: str) -> None:
    project["files"].append({"path": path, "content": "", "mode": "0644", "uid": 0, "gid": 0})
    with pytest.raises(ProjectError, match="does not stay below"):
        made(project, runtime)


def test_refuses_a_reference_in_a_public_file(project: dict[str, Any], runtime: HostRuntime) -> None:
    entry = {"path": "x", "content": "${secret:openai-api-key}", "mode": "0644", "uid": 0, "gid": 0}
    project["files"].append(entry)
    with pytest.raises(ProjectError, match="not marked `secret`"):
        made(project, runtime)


def test_refuses_a_reference_in_the_compose_file(project: dict[str, Any], runtime: HostRuntime) -> None:
    project["compose"]["services"]["redis"]["command"] = ["${secret:redis-password}"]
    with pytest.raises(ProjectError, match="references to secrets"):
        made(project, runtime)


def test_refuses_a_variable_that_nobody_sets(project: dict[str, Any], runtime: HostRuntime) -> None:
    project["runtime"][".env"].append("UNHEARD_OF")
    with pytest.raises(ProjectError, match="no value of UNHEARD_OF"):
        made(project, runtime)


def test_refuses_a_value_with_a_line_break_without_showing_it(
    project: dict[str, Any], runtime: HostRuntime
) -> None:
    with pytest.raises(ProjectError, match=r"agents-service\.env: OPENAI_API_KEY: line breaks") as caught:
        made(project, runtime, **{"openai-api-key": "hidden\nvalue"})
    assert "hidden" not in str(caught.value)


def test_lists_everything_wrong_with_a_project_without_contents(runtime: HostRuntime) -> None:
    bad = {"compose": {}, "env_files": {".env": {"A": 1}}, "files": [{"path": "a", "content": "private"}]}
    with pytest.raises(ProjectError) as caught:
        host_project(bad, runtime, OWNER, resolve)
    assert "env_files..env.A" in str(caught.value)
    assert "files.0.mode" in str(caught.value)
    assert "private" not in str(caught.value)


def test_login_is_what_docker_reads() -> None:
    document = json.loads(registry_login({"registry.example.com": ("user", "pass:word")}))
    assert document == {"auths": {"registry.example.com": {"auth": "dXNlcjpwYXNzOndvcmQ="}}}


@pytest.mark.parametrize(
    ("name", "services"),
    [
        ("openai-api-key", ("agents-blue", "agents-green")),
        ("oauth2-proxy-cookie-secret", ("oauth2-proxy",)),
        ("metrics-token", ("agents-blue", "agents-green", "prometheus")),
        ("otlp-token", ("otel-collector",)),
        ("postgres-owner-password", ("migrate-blue", "migrate-green")),
        ("postgres-app-password", ("agents-blue", "agents-green")),
        ("redis-password", ("agents-blue", "agents-green")),
        ("slack-webhook-status", ()),
    ],
)
def test_knows_who_reads_a_secret(project: dict[str, Any], name: str, services: tuple[str, ...]) -> None:
    assert readers(project, name) == services
