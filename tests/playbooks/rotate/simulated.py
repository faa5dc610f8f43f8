"""Hosts of a rotation as directories: files are real, a container is what it was given when it was made."""

from __future__ import annotations

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from ansible.plugins.action import ActionBase
from infra.paths import REPOSITORY

_ACTIONS = REPOSITORY / "ansible" / "plugins" / "action"
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def real(name: str) -> ModuleType:
    """Our own action plugin, of which a test replaces a part."""
    spec = spec_from_file_location(f"real_{name}", _ACTIONS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class AllIsWell(ActionBase):  # type: ignore[misc]
    """An action that asks nobody."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """What those return that ask somebody, as far as it is read."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        return {**result, "evidence": {}}


class Host:
    """One host below the controller's home."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        self.name = name
        self.home = home or Path.home()
        self.directory = self.home / "hosts" / name

    @property
    def _file(self) -> Path:
        return self.directory / "containers.json"

    def containers(self) -> dict[str, dict[str, str]]:
        """Running containers by service: the hash of their configuration, and all that they were given."""
        if not self._file.exists():
            return {}
        found: dict[str, dict[str, str]] = json.loads(self._file.read_text())
        return found

    def databases(self) -> dict[str, dict[str, str]]:
        """Passwords of PostgreSQL's roles, and those that Redis accepts."""
        file = self.directory / "databases.json"
        found: dict[str, dict[str, str]] = {"postgres": {}, "redis": {}}
        return json.loads(file.read_text()) if file.exists() else found

    def set_databases(self, databases: dict[str, dict[str, str]]) -> None:
        """They accept these from now on."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "databases.json").write_text(json.dumps(databases))

    def write(self, path: str, content: bytes) -> bool:
        """A file of the project; whether it was changed."""
        file = self.directory / "files" / path
        if file.exists() and file.read_bytes() == content:
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return True

    def read(self, path: str) -> str:
        """A file of the project; empty where it is not there."""
        file = self.directory / "files" / path
        return file.read_text() if file.exists() else ""

    def make(self, service: str, configuration: str, *, beside: bool = False) -> None:
        """A container of what the files say now; one that was there ends first, unless `beside`."""
        found = self.containers()
        if service in found and not beside:
            self.end(service)
        found[service] = {"configuration": configuration, "given": self._given(service)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(found))

    def end(self, service: str) -> None:
        """The container is gone; requests are lost where it was the one that served."""
        found = self.containers()
        found.pop(service, None)
        self._file.write_text(json.dumps(found))
        served = service == "oauth2-proxy" or f"//{service}:" in self.read("traefik/dynamic/active.yml")
        if served:
            with (self.home / "lost").open("a") as lost:
                lost.write(f"{self.name} {service}\n")

    def has(self, service: str, value: str) -> bool:
        """Whether a running container was given a value."""
        return value in self.containers().get(service, {}).get("given", "")

    def _given(self, service: str) -> str:
        definition = yaml.safe_load(self.read("compose.yaml"))["services"][service]
        paths = [str(path) for path in definition.get("env_file", [])]
        paths += [str(mount["source"]) for mount in definition.get("volumes", []) if mount["type"] == "bind"]
        texts = [self.read(path) for path in paths if (self.directory / "files" / path).is_file()]
        shared = dict(line.partition("=")[::2] for line in self.read(".env").splitlines())
        texts += [shared.get(name, "") for name in _VARIABLE.findall(json.dumps(definition))]
        return "\n".join(texts)
