from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.roles.modules import load_module


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_module("engine_facts")


def install(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    return root


def test_nothing_is_found_on_a_bare_host(module: ModuleType, tmp_path: Path) -> None:
    assert module.found(tmp_path) == []


def test_version_1_of_compose_does_not_count(module: ModuleType, tmp_path: Path) -> None:
    root = install(tmp_path, "usr/sbin/dockerd", "usr/bin/docker", "usr/bin/docker-compose")
    assert module.found(root) == ["dockerd", "docker"]


def test_the_plugin_counts_wherever_it_is(module: ModuleType, tmp_path: Path) -> None:
    root = install(tmp_path, "usr/local/lib/docker/cli-plugins/docker-compose")
    assert module.found(root) == ["docker-compose"]


def test_limits_of_open_files_bind_only_without_the_capability(module: ModuleType, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tinit\nCapBnd:\t000001ffffffffff\n")
    assert module.open_files(status) is None
    status.write_text("Name:\tinit\nCapBnd:\t00000000a82435fb\n")
    assert module.open_files(status) > 0
