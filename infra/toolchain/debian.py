"""Debian and Ubuntu: packages of commands that are missing, and the mirror that this machine uses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.toolchain.commands import logged
from infra.toolchain.errors import ToolchainError
from infra.toolchain.progress import Progress

# Command -> package that brings it.
PACKAGES: Mapping[str, str] = {
    "git": "git",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mmdebstrap": "mmdebstrap",
    "dockerd": "docker.io",
    "iptables": "iptables",
    "chromium": "chromium",
    "certutil": "libnss3-tools",
    "node": "nodejs",
    "npm": "npm",
}
# Where daemons live, which is on root's PATH only.
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")

MIRROR_VARIABLE = "ICUPA_DEBIAN_MIRROR"


@dataclass(frozen=True)
class Source:
    """One line of apt's sources: packages at `uri`, for each of `suites`."""

    uri: str
    suites: tuple[str, ...]


@dataclass(frozen=True)
class Mirror:
    """Where Debian's packages come from: `main`, and `security` where the sources name one."""

    main: str
    security: str | None


def missing(commands: Iterable[str]) -> list[str]:
    """Return the packages of those `commands` that are not here, each once."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])
    absent = (PACKAGES[command] for command in commands if shutil.which(command, path=path) is None)
    return list(dict.fromkeys(absent))


def install(commands: Iterable[str], progress: Progress) -> list[str]:
    """Install the packages of those `commands` that are missing; return their names.

    Raises:
        ToolchainError: if that takes root or apt and neither is here, or apt fails.
    """
    packages = missing(commands)
    if not packages:
        return []
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise ToolchainError(f"missing here: {names} (names of Debian packages). Install them and run again")
    if os.geteuid() != 0:
        raise ToolchainError(f"missing here: {names}. As root: apt-get install {names}; then run again")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.job("apt"):
        progress.phase("apt", "update")
        logged("apt", ["apt-get", "update", "-q"], environment=environment)
        progress.phase("apt", f"install {names}")
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
        logged("apt", command, environment=environment)
    return packages


def sources(root: Path = Path("/etc/apt")) -> list[Source]:
    """Read apt's sources, in both of their forms; entries without binary packages are left out."""
    found: list[Source] = []
    for file in (root / "sources.list", *sorted((root / "sources.list.d").glob("*"))):
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".sources":
            found += _deb822(text)
        elif file.suffix == ".list":
            found += _one_line(text)
    return found


def mirror(found: Iterable[Source], codename: str, override: str | None = None) -> Mirror:
    """Return the mirror among the sources of a Debian machine; `override` is the user's own choice.

    Raises:
        ToolchainError: if no source serves `codename`.
    """
    if override:
        return Mirror(override.rstrip("/"), None)
    main = security = None
    for source in found:
        if codename in source.suites:
            main = main or source.uri
        if f"{codename}-security" in source.suites or f"{codename}/updates" in source.suites:
            security = security or source.uri
    if main is None:
        raise ToolchainError(
            f"apt's sources name no mirror of Debian ({codename}); set {MIRROR_VARIABLE} to one and run again"
        )
    return Mirror(main.rstrip("/"), security.rstrip("/") if security else None)


def release(file: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Read os-release: `ID`, `VERSION_CODENAME` and so on."""
    if not file.is_file():
        return {}
    pairs = (line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {name: value.strip().strip("\"'") for name, value in pairs}


def _deb822(text: str) -> list[Source]:
    found = []
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
            continue
        suites = tuple(fields.get("suites", "").split())
        found += [Source(uri, suites) for uri in fields.get("uris", "").split()]
    return found


def _one_line(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words or words[0] != "deb":
            continue
        words = words[1:]
        if words and words[0].startswith("["):
            while words and not words[0].endswith("]"):
                words.pop(0)
            words = words[1:]
        uri_and_suite = 2
        if len(words) >= uri_and_suite:
            found.append(Source(words[0], (words[1],)))
    return found
