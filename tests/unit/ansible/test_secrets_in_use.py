"""The module that looks into the processes of containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.ansible.conftest import load_plugin

module = load_plugin("modules", "secrets_in_use")
VALUES = {"key wanted": "sk-new-0123", "key unwanted": "sk-old-0123"}


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that was given the old value."""
    code = "import time; print(flush=True); time.sleep(60)"
    environment = {**os.environ, "OPENAI_API_KEY": VALUES["key unwanted"]}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[bytes]) -> Path:
    """`docker` that knows one container: the process, and a file and a directory mounted into it."""
    file = tmp_path / "token"
    file.write_text(f"Bearer {VALUES['key wanted']}\n")
    (tmp_path / "folder").mkdir()
    inspected = [
        {
            "Config": {"Labels": {"com.docker.compose.service": "agents-blue"}},
            "State": {"Pid": process.pid},
            "Mounts": [
                {"Type": "bind", "Destination": str(file)},
                {"Type": "bind", "Destination": str(tmp_path / "folder")},
                {"Type": "volume", "Destination": "/nowhere"},
            ],
        }
    ]
    (tmp_path / "inspected.json").write_text(json.dumps(inspected))
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n'
        f'case "$1" in ps) echo one;; inspect) cat {tmp_path}/inspected.json;; esac\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_finds_values_in_environment_and_mounted_files(engine: Path) -> None:
    assert module.in_use("agents-service", VALUES) == {"agents-blue": ["key unwanted", "key wanted"]}
    (engine / "token").write_text("other")
    assert module.in_use("agents-service", VALUES) == {"agents-blue": ["key unwanted"]}
    assert module.in_use("agents-service", {"none": "nobody-has-this"}) == {"agents-blue": []}


def test_asks_the_engine_for_no_value(engine: Path) -> None:
    module.in_use("agents-service", VALUES)
    asked = (engine / "asked").read_text()
    assert "label=com.docker.compose.oneoff=False" in asked
    assert not any(value in asked for value in VALUES.values())
