"""A browser that programs drive, and Lighthouse: Debian's Chromium, npm's packages by their lock file.

Only for what measures pages: `ensure browser`. Nothing else waits for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra import paths
from infra.toolchain import debian
from infra.toolchain.commands import logged
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import exclusive
from infra.toolchain.progress import Progress

COMMANDS = ("chromium", "certutil", "node", "npm")
LEAST_NODE = 18
_CLI = Path("node_modules", "lighthouse", "cli", "index.js")
_FILES = ("package.json", "package-lock.json")


@dataclass(frozen=True)
class Browser:
    """Programs that measure a page; `certutil` makes a browser trust an authority."""

    chromium: Path
    certutil: Path
    node: Path
    lighthouse: Path


def home() -> Path:
    """Directory in the cache for exactly these packages."""
    digest = hashlib.sha256()
    for name in _FILES:
        digest.update((_sources() / name).read_bytes())
    return paths.cache_home() / "lighthouse" / digest.hexdigest()[:16]


def version() -> str:
    """Version of Lighthouse that is pinned."""
    document = json.loads((_sources() / "package.json").read_text(encoding="utf-8"))
    return str(document["dependencies"]["lighthouse"])


def missing() -> list[str]:
    """What is not here, in words; nothing where pages can be measured."""
    said = [name for name in ("chromium", "certutil", "node") if shutil.which(name) is None]
    if not (home() / _CLI).is_file():
        said.append("lighthouse")
    return said


def find() -> Browser | None:
    """The programs, if all of them are here."""
    if missing():
        return None
    chromium, certutil, node = (Path(shutil.which(name) or name) for name in ("chromium", "certutil", "node"))
    return Browser(chromium, certutil, node, home() / _CLI)


def ensure(progress: Progress) -> Path:
    """Have all of it; returns the directory of the packages.

    Raises:
        ToolchainError: something can't be installed; the message says what.
    """
    debian.install(COMMANDS, progress)
    _refuse_old_node()
    target = home()
    if (target / _CLI).is_file():
        return target
    with exclusive(target.parent / "lighthouse.lock"), progress.job("lighthouse"):
        if not (target / _CLI).is_file():
            progress.phase("lighthouse", "npm ci")
            _install(target)
    return target


def _sources() -> Path:
    return paths.toolchain_pins() / "lighthouse"


def _refuse_old_node() -> None:
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.", done.stdout)
    if found is None or int(found[1]) < LEAST_NODE:
        raise ToolchainError(
            f"node is {done.stdout.strip() or 'broken'}; Lighthouse needs {LEAST_NODE} or newer"
        )


def _install(target: Path) -> None:
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    trust = {"NODE_EXTRA_CA_CERTS": bundle} if bundle else {}
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as new:
        made = Path(new, "made")
        made.mkdir()
        for name in _FILES:
            shutil.copyfile(_sources() / name, made / name)
        command = [
            "npm",
            "ci",
            "--omit=dev",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            f"--cache={new}/npm",
        ]
        logged("lighthouse", command, cwd=made, environment={**trust, **os.environ})
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
