"""Compose itself reads what is rendered, and reads it as it was meant."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.config.load import load_file, stack_names
from infra.images import local_tag
from infra.runtimes.compose import render
from infra.services.context import Context
from infra.services.topology import topology
from infra.site import envfile

pytestmark = pytest.mark.system

AWKWARD = "a'b\"c$d${HOME}#e \\f"
RUNTIME = {
    "AGENTS_IMAGE_BLUE": f"registry.example.com/icupa/agents-service@sha256:{'b' * 64}",
    "AGENTS_IMAGE_GREEN": f"registry.example.com/icupa/agents-service@sha256:{'c' * 64}",
    "COMPOSE_PROFILES": "blue",
    "FEATURE_AGENT_CHAT": "true",
}


def compose_command(project: Path) -> list[str]:
    """`docker compose` of this machine, else of the machines' image, which `make up` has built."""
    docker = shutil.which("docker")
    assert docker, "docker is not on PATH"
    probe = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [docker, "compose"]
    image = local_tag("machine")
    found = subprocess.run([docker, "image", "inspect", image], capture_output=True, check=False)
    assert found.returncode == 0, f"neither `docker compose` nor the image {image} is here: run `make up`"
    mounted = [f"--volume={project}:/project:ro", "--workdir=/project", "--entrypoint=docker"]
    return [docker, "run", "--rm", "--network=none", *mounted, image, "compose"]


@pytest.mark.parametrize("stack", stack_names())
def test_compose_reads_what_was_meant(stack: str, tmp_path: Path) -> None:
    loaded = load_file(stack)
    machine = loaded.hosts.machines[0]
    services = topology(Context(stack, loaded, machine.region, machine.role))
    images = {name: f"registry.example.com/icupa/{name}@sha256:{'a' * 64}" for name in services.images}
    project = render(services, images)
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(project["compose"], sort_keys=False))
    for name, variables in project["env_files"].items():
        known = {variable: RUNTIME.get(variable, "") for variable in project["runtime"].get(name, [])}
        secret = {key: value.replace("${secret:", AWKWARD + "${secret:") for key, value in variables.items()}
        (tmp_path / name).write_text(envfile.render({**secret, **known}))

    done = subprocess.run(
        [*compose_command(tmp_path), "config"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    assert set(read) == {
        name
        for name, service in project["compose"]["services"].items()
        if "blue" in service.get("profiles", ["blue"])
    }
    agents = read["agents-blue"]
    assert agents["image"] == RUNTIME["AGENTS_IMAGE_BLUE"]
    # `config` writes every dollar twice, so that what it prints can be read again.
    key = agents["environment"]["OPENAI_API_KEY"].replace("$$", "$")
    assert key == AWKWARD + "${secret:openai-api-key}"
    assert agents["environment"]["FEATURE_AGENT_CHAT"] == "true"
    headers = read["otel-collector"]["environment"]["OTLP_EXPORTER_HEADERS"].replace("$$", "$")
    assert headers == f"Authorization=Bearer {AWKWARD}${{secret:otlp-token}}"
    assert int(agents["mem_limit"]) == 1024**3
    assert read["traefik"]["networks"]["edge"]["ipv4_address"] == "172.31.250.2"
