"""Pulumi's plugins, in a PULUMI_HOME of the project's own.

Official ones where they can be installed; otherwise the one built from pins, or a stand-in of
`infra/providers`. A refused download is remembered for a day, so that it costs nothing on the next run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from infra import paths
from infra.providers.plugins import OWN, STAND_INS, write_executable
from infra.toolchain import environment
from infra.toolchain.commands import logged
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import exclusive
from infra.toolchain.progress import Progress

# Python packages whose plugins the program uses; each names its plugin's version itself.
PACKAGES = ("pulumi_docker", "pulumi_docker_build", "pulumi_digitalocean", "pulumi_cloudflare")

_REMEMBER = 24 * 3600.0
_TRY_TIMEOUT = 120


class Origin(StrEnum):
    """Where a plugin comes from."""

    OFFICIAL = "official"
    BUILT = "built from pins"
    STAND_IN = "stand-in"
    OWN = "this checkout"


@dataclass(frozen=True)
class Plugin:
    """A resource plugin as the engine knows it."""

    name: str
    version: str

    @property
    def folder(self) -> Path:
        """Directory that the engine keeps it in."""
        return paths.pulumi_home() / "plugins" / f"resource-{self.name}-v{self.version}"

    @property
    def executable(self) -> str:
        """Name of its executable."""
        return f"pulumi-resource-{self.name}"

    @property
    def installed(self) -> bool:
        """Say if it is there whole: the engine marks one that is not."""
        partial = self.folder.with_name(f"{self.folder.name}.partial")
        return (self.folder / self.executable).is_file() and not partial.exists()


@dataclass(frozen=True)
class Installed:
    """A plugin that is there, and where it came from."""

    plugin: Plugin
    origin: Origin


def official(packages: tuple[str, ...] = PACKAGES) -> list[Plugin]:
    """Return the plugins that the installed Python packages name.

    Raises:
        ToolchainError: if one of the packages names none.
    """
    found = []
    for package in packages:
        # Found, not imported: the SDKs of clouds take seconds to import.
        spec = importlib.util.find_spec(package)
        try:
            if spec is None or spec.origin is None:
                raise FileNotFoundError(package)
            facts = json.loads(Path(spec.origin).with_name("pulumi-plugin.json").read_text())
            found.append(Plugin(facts["name"], facts["version"].removeprefix("v")))
        except (OSError, KeyError, json.JSONDecodeError) as error:
            raise ToolchainError(f"{package} names no plugin and version: {error}") from error
    return found


def ensure(
    built: Callable[[str], Path | None],
    progress: Progress,
    download: Callable[[Plugin], bool] | None = None,
) -> list[Installed]:
    """Have every plugin installed; `built` gives the executable of one that has pins, else None.

    Raises:
        ToolchainError: if a plugin can't be had in any way.
    """
    public = official()
    wanted = [*public, *(Plugin(name, version) for name, version in OWN.items())]
    with exclusive(paths.cache_home() / "locks" / "plugins.lock"):
        memory = _Memory(paths.pulumi_home() / "icupa-plugins.json")
        found = []
        for plugin in wanted:
            name = plugin.name
            if plugin in public and memory.worth_trying(plugin):
                with progress.job(f"plugin {name}"):
                    progress.phase(f"plugin {name}", "download")
                    memory.tried(plugin, (download or _download)(plugin))
            if memory.is_official(plugin):
                found.append(Installed(plugin, Origin.OFFICIAL))
                continue
            executable = built(plugin.executable)
            origin = Origin.BUILT
            with tempfile.TemporaryDirectory() as aside:
                if executable is None:
                    if name not in {**OWN, **STAND_INS}:
                        raise ToolchainError(f"plugin {name} {plugin.version} can't be downloaded or built")
                    executable = Path(aside) / plugin.executable
                    write_executable(name, executable)
                    origin = Origin.OWN if name in OWN else Origin.STAND_IN
                _install(plugin, executable, memory)
            found.append(Installed(plugin, origin))
    return found


class _Memory:
    """What was tried and installed, so that the next run need not look."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._facts: dict[str, dict[str, float | str]] = json.loads(file.read_text())
        except (OSError, json.JSONDecodeError):
            self._facts = {}

    def worth_trying(self, plugin: Plugin) -> bool:
        facts = self._facts.get(plugin.folder.name, {})
        if facts.get("origin") == Origin.OFFICIAL and plugin.installed:
            return False
        return time.time() - float(facts.get("refused", 0)) > _REMEMBER

    def tried(self, plugin: Plugin, worked: bool) -> None:
        self._put(plugin, {"origin": Origin.OFFICIAL} if worked else {"refused": time.time()})

    def is_official(self, plugin: Plugin) -> bool:
        return self._facts.get(plugin.folder.name, {}).get("origin") == Origin.OFFICIAL and plugin.installed

    def content(self, plugin: Plugin) -> str | None:
        value = self._facts.get(plugin.folder.name, {}).get("content")
        return str(value) if value is not None and plugin.installed else None

    def put_content(self, plugin: Plugin, content: str) -> None:
        self._put(plugin, {**self._facts.get(plugin.folder.name, {}), "content": content})

    def _put(self, plugin: Plugin, facts: dict[str, float | str]) -> None:
        self._facts[plugin.folder.name] = facts
        self._file.parent.mkdir(parents=True, exist_ok=True)
        aside = self._file.with_suffix(".new")
        aside.write_text(json.dumps(self._facts, indent=1))
        aside.replace(self._file)


def _download(plugin: Plugin) -> bool:
    shutil.rmtree(plugin.folder, ignore_errors=True)
    done = subprocess.run(
        ["pulumi", "plugin", "install", "resource", plugin.name, plugin.version],
        env={**os.environ, **environment.variables(os.environ)},
        capture_output=True,
        timeout=_TRY_TIMEOUT,
        check=False,
    )
    return done.returncode == 0 and plugin.installed


def _install(plugin: Plugin, executable: Path, memory: _Memory) -> None:
    with executable.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    if memory.content(plugin) == content:
        return
    with tempfile.TemporaryDirectory() as aside:
        archive = Path(aside) / "plugin.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(executable.resolve(), plugin.executable, filter=_executable)
        arguments = ["resource", plugin.name, plugin.version, "--file", str(archive), "--reinstall"]
        logged(
            f"plugin-{plugin.name}",
            ["pulumi", "plugin", "install", *arguments],
            environment={**os.environ, **environment.variables(os.environ)},
        )
    if not plugin.installed:
        raise ToolchainError(f"plugin {plugin.name}: the engine installed no {plugin.folder}")
    memory.put_content(plugin, content)


def _executable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mode = 0o755
    return info
