"""Where a tool comes from: PATH where its version fits, else the cache, else a build."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from infra import paths
from infra.toolchain.pins import OnPath, Pin

_PROBE_TIMEOUT = 20
_PT_INTERP = 3


class Source(StrEnum):
    """Where a tool was taken from in this run."""

    PATH = "PATH"
    CACHE = "cache"
    BUILT = "built now"
    PYPI = "PyPI, now"


@dataclass(frozen=True)
class Tool:
    """A tool that is there: each binary's place."""

    pin: Pin
    version: str
    source: Source
    binaries: Mapping[str, Path]

    @property
    def binary(self) -> Path:
        """Place of the first binary."""
        return self.binaries[self.pin.binaries[0]]


def home(pin: Pin) -> Path:
    """Directory in the cache for a tool's binaries."""
    return paths.cache_home() / "tools" / pin.name / pin.key


def cached(pin: Pin, source: Source = Source.CACHE) -> Tool | None:
    """Return the tool from the cache; a directory there was renamed into place whole."""
    binaries = {name: home(pin) / name for name in pin.binaries}
    if not all(os.access(file, os.X_OK) for file in binaries.values()):
        return None
    return Tool(pin, pin.version, source, binaries)


def search_path(value: str | None = None) -> tuple[Path, ...]:
    """Directories of PATH, without the project's own: what was built here is not the user's."""
    value = os.environ.get("PATH", os.defpath) if value is None else value
    own = (paths.cache_home(), paths.REPOSITORY / "build")
    found = (Path(part) for part in value.split(os.pathsep) if part)
    return tuple(
        directory
        for directory in dict.fromkeys(found)
        if directory.is_absolute() and not any(directory.is_relative_to(room) for room in own)
    )


def on_path(pin: Pin, taken: Mapping[str, Tool], search: tuple[Path, ...]) -> Tool | None:
    """Return the tool from the first directory of `search` whose version fits.

    `taken` holds the tools found so far, for those that must lie beside another.
    """
    if pin.path is None:
        return None
    if pin.path.beside is not None:
        other = taken.get(pin.path.beside)
        if other is None or other.source is not Source.PATH:
            return None
        return _in_directory(pin, other.binary.parent, lambda _: other.version)
    return next(
        filter(None, (_in_directory(pin, directory, _prober(pin.path)) for directory in search)), None
    )


def fits(version: str, accepts: str) -> bool:
    """Say if `version` lies in the range `accepts` (as in requirements: `>=1.2,<2`)."""
    try:
        return SpecifierSet(accepts).contains(Version(version), prereleases=False)
    except InvalidVersion:
        return False


def is_static(file: Path) -> bool:
    """Say if `file` is an ELF executable that needs no loader, and so runs in any image."""
    with file.open("rb") as stream:
        head = stream.read(64)
        if head[:4] != b"\x7fELF" or head[4] != 2 or head[5] != 1:  # noqa: PLR2004 - 64 bit, little endian
            return False
        offset = struct.unpack_from("<Q", head, 32)[0]
        size, count = struct.unpack_from("<HH", head, 54)
        stream.seek(offset)
        table = stream.read(size * count)
    return all(struct.unpack_from("<I", table, index * size)[0] != _PT_INTERP for index in range(count))


def probe(binary: Path, how: OnPath) -> str | None:
    """Return the version that `binary` tells, or None."""
    try:
        done = subprocess.run(
            [binary, *how.probe], capture_output=True, text=True, timeout=_PROBE_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(how.pattern, done.stdout + done.stderr)
    return found.group(1) if found and done.returncode == 0 else None


def _prober(how: OnPath) -> Callable[[Path], str | None]:
    return lambda binary: probe(binary, how)


def _in_directory(pin: Pin, directory: Path, version_of: Callable[[Path], str | None]) -> Tool | None:
    binaries = {name: directory / name for name in pin.binaries}
    for file in binaries.values():
        if not (file.is_file() and os.access(file, os.X_OK)):
            return None
        if file.resolve().is_relative_to(paths.cache_home()):
            return None
        if pin.static and not is_static(file):
            return None
    version = version_of(binaries[pin.binaries[0]])
    accepts = pin.path.accepts if pin.path else ""
    if version is None or not fits(version, accepts):
        return None
    return Tool(pin, version, Source.PATH, binaries)


def needed(pins: Mapping[str, Pin], groups: set[str]) -> Iterator[Pin]:
    """Yield the pins that the groups name, those others lie beside first, then the heaviest."""
    chosen = [pin for pin in pins.values() if groups & set(pin.groups)]
    return iter(sorted(chosen, key=lambda pin: (bool(pin.path and pin.path.beside), -pin.weight, pin.name)))
