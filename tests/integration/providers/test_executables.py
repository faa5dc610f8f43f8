"""The plugins' executables: each serves the engine's protocol in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2_grpc

from infra import paths
from infra.providers.plugins import OWN, STAND_INS, executable_name, write_executable


@pytest.mark.parametrize("name", sorted({**OWN, **STAND_INS}))
def test_the_executable_serves_wherever_it_is_started(name: str, tmp_path: Path) -> None:
    executable = tmp_path / executable_name(name)
    write_executable(name, executable)
    with subprocess.Popen([executable, "127.0.0.1:1"], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                info = provider_pb2_grpc.ResourceProviderStub(channel).GetPluginInfo(
                    empty_pb2.Empty(), timeout=20
                )
            assert info.version == {**OWN, **STAND_INS}[name]
        finally:
            process.kill()


def test_an_unknown_plugin_is_refused() -> None:
    command = [sys.executable, "-m", "infra.providers.plugins", "nosuch"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=paths.REPOSITORY, check=False)
    assert ended.returncode == 2
    assert "docker" in ended.stderr
