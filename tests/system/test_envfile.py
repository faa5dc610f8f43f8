"""Env files against the Compose of a machine: what it reads back is what was meant."""

from __future__ import annotations

import json
import random
import subprocess
import uuid

import pytest

from infra import local
from infra.site import envfile

pytestmark = pytest.mark.system

_CHARACTERS = "ab'\"$\\ #{}()\t=n`!%&;|é"
_COMPOSE = """\
services:
  by-file: {image: any, env_file: [values.env]}
  by-interpolation:
    image: any
    environment:
"""


def values() -> dict[str, str]:
    """Values with everything that parsers treat differently, the same in every run."""
    chance = random.Random(20)  # noqa: S311 - test data
    made = {
        f"RANDOM_{number}": "".join(chance.choices(_CHARACTERS, k=chance.randint(1, 12)))
        for number in range(200)
    }
    return {
        **made,
        "EMPTY": "",
        "JSON": '{"a": "$b", "c": ["\'"]}',
        "DSN": "postgres://u:p$w'd@h:5432/d?x=y#z",
    }


def test_compose_reads_back_what_was_meant() -> None:
    meant = values()
    directory = f"/run/icupa-test-{uuid.uuid4().hex}"
    inside = ["docker", "exec", "-i", local.PRIMARY.container]

    def write(name: str, text: str) -> None:
        command = f"mkdir -p {directory} && cat > {directory}/{name}"
        subprocess.run([*inside, "sh", "-c", command], input=text.encode(), check=True)

    try:
        write("values.env", envfile.render(meant))
        write(".env", envfile.render(meant))
        write("compose.yaml", _COMPOSE + "".join(f"      {name}: ${{{name}}}\n" for name in meant))
        command = ["docker", "compose", "--project-directory", directory, "config", "--format", "json"]
        done = subprocess.run([*inside, *command], capture_output=True, text=True, check=True)
    finally:
        subprocess.run([*inside, "rm", "-rf", directory], check=True)
    services = json.loads(done.stdout)["services"]
    # In what it prints, Compose doubles each dollar sign.
    read = {
        service: {name: value.replace("$$", "$") for name, value in services[service]["environment"].items()}
        for service in ("by-file", "by-interpolation")
    }
    assert read["by-file"] == meant
    assert read["by-interpolation"] == meant
