"""Plugins: official where they can be had, a refusal is remembered, a changed stand-in is installed anew."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra import paths
from infra.toolchain import plugins
from infra.toolchain.errors import ToolchainError
from infra.toolchain.pins import load_all
from infra.toolchain.plugins import Origin, Plugin
from infra.toolchain.progress import Progress

DOCKER = Plugin("docker", "5.2.0")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the plugins that the engine installed from a file, in order."""
    installed: list[str] = []

    def logged(name: str, command: Sequence[str], **rest: object) -> str:
        plugin = Plugin(command[4], command[5])
        with tarfile.open(command[command.index("--file") + 1]) as archive:
            member = archive.extractfile(plugin.executable)
            assert member is not None
            assert archive.getmember(plugin.executable).mode == 0o755
            plugin.folder.mkdir(parents=True, exist_ok=True)
            (plugin.folder / plugin.executable).write_bytes(member.read())
        installed.append(plugin.name)
        return ""

    monkeypatch.setattr(plugins, "logged", logged)
    monkeypatch.setattr(plugins, "official", lambda: [DOCKER])
    monkeypatch.setattr(plugins, "OWN", {})
    monkeypatch.setattr(plugins, "STAND_INS", {"docker": "5.2.0"})
    monkeypatch.setattr(plugins, "write_executable", lambda name, file: file.write_text("stand-in 1"))
    return installed


class Mirror:
    def __init__(self, serves: bool) -> None:
        self.serves, self.asked = serves, 0

    def __call__(self, plugin: Plugin) -> bool:
        self.asked += 1
        if self.serves:
            plugin.folder.mkdir(parents=True, exist_ok=True)
            (plugin.folder / plugin.executable).write_text("official")
        return self.serves


def run(mirror: Mirror, built: Path | None = None) -> Origin:
    (found,) = plugins.ensure(lambda name: built, Progress(), mirror)
    return found.origin


def test_official_plugin_is_downloaded_once(engine: list[str]) -> None:
    mirror = Mirror(serves=True)
    assert [run(mirror), run(mirror)] == [Origin.OFFICIAL, Origin.OFFICIAL]
    assert (mirror.asked, engine) == (1, [])


def test_a_refusal_is_remembered_for_a_day(engine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(serves=False)
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    assert [run(mirror), run(mirror)] == [Origin.STAND_IN, Origin.STAND_IN]
    assert (mirror.asked, engine) == (1, ["docker"])
    now[0] += 25 * 3600
    mirror.serves = True
    assert run(mirror) is Origin.OFFICIAL
    assert mirror.asked == 2


def test_a_stand_in_that_changed_is_installed_anew(
    engine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(serves=False)
    run(mirror)
    monkeypatch.setattr(plugins, "write_executable", lambda name, file: file.write_text("stand-in 2"))
    run(mirror)
    assert engine == ["docker", "docker"]
    assert (DOCKER.folder / DOCKER.executable).read_text() == "stand-in 2"


def test_one_that_vanished_or_was_left_half_is_installed_anew(engine: list[str]) -> None:
    mirror = Mirror(serves=False)
    run(mirror)
    (DOCKER.folder / DOCKER.executable).unlink()
    run(mirror)
    DOCKER.folder.with_name(f"{DOCKER.folder.name}.partial").touch()
    assert not DOCKER.installed


def test_what_is_built_from_pins_goes_before_a_stand_in(engine: list[str], tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.write_text("built")
    assert run(Mirror(serves=False), built) is Origin.BUILT
    assert (DOCKER.folder / DOCKER.executable).read_text() == "built"


def test_without_any_way_the_plugin_is_named(engine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "STAND_INS", {})
    with pytest.raises(ToolchainError, match=r"docker 5\.2\.0"):
        run(Mirror(serves=False))


def test_versions_are_those_of_the_python_packages() -> None:
    found = {plugin.name: plugin.version for plugin in plugins.official()}
    assert set(found) == {"docker", "docker-build", "digitalocean", "cloudflare"}
    assert load_all()["pulumi-resource-docker-build"].version == found["docker-build"]


def test_memory_that_was_cut_short_is_forgotten(engine: list[str]) -> None:
    memory = paths.pulumi_home() / "icupa-plugins.json"
    memory.parent.mkdir(parents=True)
    memory.write_text('{"resource-')
    assert run(Mirror(serves=False)) is Origin.STAND_IN
    assert json.loads(memory.read_text())
