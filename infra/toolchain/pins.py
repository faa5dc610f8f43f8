"""Pins of the tools: `toolchain/<tool>/tool.toml`, beside it go.mod and go.sum of what is built from Go."""

from __future__ import annotations

import hashlib
import json
import platform
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from infra import paths
from infra.toolchain.errors import ToolchainError
from infra.toolchain.groups import Group

# Part of every key: raise it when the way of building changes what comes out.
RECIPE = 1


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(str(error)) from error
    return text


class _Pins(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OnPath(_Pins):
    """What on PATH fits: `probe` arguments print a version that `pattern` finds and that lies in `accepts`.

    `beside` instead: fits where it lies in the directory of that tool, itself taken from PATH.
    """

    probe: tuple[str, ...] = ()
    pattern: str = r"v?(\d+\.\d+\.\d+)"
    accepts: Annotated[str, AfterValidator(_specifier)] = ""
    beside: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = (bool(self.probe), bool(self.accepts), self.beside is not None)
        if given not in {(True, True, False), (False, False, True)}:
            raise ValueError("give either `probe` and `accepts`, or `beside`")
        return self


class ModuleFiles(_Pins):
    """Plain files of a Go module, whose zip must have the checksum `sum`."""

    module: str
    sum: str
    files: tuple[str, ...]


class Generator(_Pins):
    """A tool of this toolchain that writes the main package first; go.mod and go.sum stay as pinned."""

    tool: str
    arguments: tuple[str, ...]


class GoBuild(_Pins):
    """How to build a Go `package`; `{version}` in `ldflags` is the tool's version."""

    package: str
    ldflags: str = ""
    copy_from: ModuleFiles | None = None
    generator: Generator | None = None


class Wheel(_Pins):
    """A PyPI `package` that carries binaries: `files` maps each to its place in the installed package.

    `whole`: the binaries need what lies around them, so all of it is kept.
    """

    package: str
    files: dict[str, str]
    hashes: tuple[str, ...]
    whole: bool = False


class Pin(_Pins):
    """One tool. `image`: copied for images; `static`: what PATH gives must be linked statically."""

    name: str
    folder: Path
    version: str
    binaries: tuple[str, ...]
    groups: tuple[Group, ...]
    static: bool = False
    image: bool = False
    path: OnPath | None = None
    go: GoBuild | None = None
    pypi: Wheel | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.go is None) == (self.pypi is None):
            raise ValueError("give exactly one of [go] and [pypi]")
        if self.pypi is not None and set(self.pypi.files) != set(self.binaries):
            raise ValueError("[pypi] files must name each of `binaries`")
        return self

    @cached_property
    def key(self) -> str:
        """Name of the build: changes with whatever changes the binaries, and with nothing else."""
        facts = self.model_dump(mode="json", include={"version", "binaries", "go", "pypi"})
        facts |= {"recipe": RECIPE, "machine": platform.machine(), "system": platform.system()}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for file in sorted(f for f in self.folder.rglob("*") if f.is_file() and f.name != "tool.toml"):
            content = file.read_bytes()
            name = file.relative_to(self.folder).as_posix()
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:16]

    @property
    def weight(self) -> int:
        """Size of the pins in bytes: the more modules, the longer the build."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def load(folder: Path) -> Pin:
    """Read one tool's pins.

    Raises:
        ToolchainError: naming the file and everything that is wrong in it.
    """
    file = folder / "tool.toml"
    try:
        return Pin.model_validate({"name": folder.name, "folder": folder, **tomllib.loads(file.read_text())})
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ToolchainError(f"{file}: {error}") from error


def load_all(root: Path | None = None) -> dict[str, Pin]:
    """Read the pins of every tool.

    Raises:
        ToolchainError: if there are none, or some are wrong.
    """
    root = root or paths.toolchain_pins()
    pins = {
        folder.name: load(folder) for folder in sorted(root.iterdir()) if (folder / "tool.toml").is_file()
    }
    if not pins:
        raise ToolchainError(f"{root} holds no pins")
    for pin in pins.values():
        for other in (pin.go and pin.go.generator and pin.go.generator.tool, pin.path and pin.path.beside):
            if other and other not in pins:
                raise ToolchainError(f"{pin.folder}/tool.toml names {other}, which has no pins")
    return pins
