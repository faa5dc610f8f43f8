"""The virtual environment, keyed by what is pinned and by the interpreter.

Standard library only: it runs before the virtual environment exists.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from infra import paths
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import exclusive

MINIMUM = (3, 11)
REQUIREMENTS = paths.REPOSITORY / "requirements.txt"
CONSTRAINTS = paths.REPOSITORY / "constraints.txt"

_HEADER = "# Every package of the environment that requirements.txt gives: `make lock` writes it."
_PIP_INSTALL = (
    *("-m", "pip", "install", "--no-compile", "--no-input"),
    *("--progress-bar", "off", "--disable-pip-version-check"),
)
_COMPLETE = ".complete"
_SAY_EVERY = 10.0
_LOG_TAIL = 15


def home() -> Path:
    """Directory in the cache of the virtual environment that this checkout needs."""
    return paths.cache_home() / "venv" / key(REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes())


def key(requirements: bytes, constraints: bytes) -> str:
    """Name the environment that these two files give on this interpreter and machine."""
    base = _interpreter()
    facts = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()} {base}"
    digest = hashlib.sha256()
    for part in (requirements, constraints, facts.encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def ensure() -> Path:
    """Return the virtual environment, made if it is missing or was not finished.

    Raises:
        ToolchainError: if this Python is too old, can't make one, or the packages can't be installed.
    """
    if sys.version_info < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        raise ToolchainError(
            f"Python {wanted} or newer is needed; {sys.executable} is {platform.python_version()}"
        )
    target = home()
    if not _complete(target):
        with exclusive(paths.cache_home() / "locks" / "venv.lock"):
            if not _complete(target):
                _make(target)
    link(paths.virtual_environment(), target)
    return target


def lock() -> None:
    """Write constraints.txt anew: what requirements.txt brings along today.

    Raises:
        ToolchainError: if it can't be installed.
    """
    began = time.monotonic()
    _need_ensurepip()
    with tempfile.TemporaryDirectory() as aside:
        python = str(Path(aside) / "bin" / "python")
        _run([_interpreter(), "-m", "venv", aside], "create", began)
        _run([python, *_PIP_INSTALL, "-r", str(REQUIREMENTS)], "install", began)
        frozen = subprocess.run(
            [python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True
        ).stdout
    lines = sorted(frozen.splitlines(), key=str.lower)
    CONSTRAINTS.write_text("\n".join([_HEADER, *lines, ""]), encoding="utf-8")


def _interpreter() -> str:
    """Return the interpreter behind any virtual environment and any of its names, so that it has one key."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def link(at: Path, target: Path) -> None:
    """Make `at` a symbolic link to `target`, replaced in one step."""
    if at.is_symlink() and at.readlink() == target:
        return
    at.parent.mkdir(parents=True, exist_ok=True)
    aside = at.with_name(f".{at.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.replace(at)


def _complete(target: Path) -> bool:
    return (target / _COMPLETE).is_file() and (target / "bin" / "python").exists()


def _make(target: Path) -> None:
    # Scripts hold the directory's absolute name, so it is built in place; the marker, written last,
    # tells that it is whole.
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    _need_ensurepip()
    _run([_interpreter(), "-m", "venv", str(target)], "create", began)
    python = str(target / "bin" / "python")
    _run([python, *_PIP_INSTALL, "-r", str(REQUIREMENTS), "-c", str(CONSTRAINTS)], "install", began)
    (target / _COMPLETE).touch()
    _say("ready", began)


def _need_ensurepip() -> None:
    if importlib.util.find_spec("ensurepip") is not None:
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    package = f"python{version}-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ToolchainError(
            f"{sys.executable} can't make virtual environments: install {package}, then run this again"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", *command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ToolchainError(f"apt-get {command[0]} for {package} failed:\n{done.stderr.strip()}")


def _run(command: list[str], what: str, began: float) -> None:
    log = paths.cache_home() / "logs" / "venv.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words: Counter[str] = Counter()
    said = time.monotonic()
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None  # noqa: S101
        for line in process.stdout:
            file.write(line)
            words[line.split(" ", 1)[0]] += 1
            if time.monotonic() - said >= _SAY_EVERY or line.startswith("Installing"):
                said = time.monotonic()
                phase = "installing" if words["Installing"] else "fetching"
                _say(f"{what}: {phase} {words['Collecting']} packages", began)
    if process.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-_LOG_TAIL:])
        raise ToolchainError(f"virtual environment: {what} failed, see {log}:\n{tail}")


def _say(what: str, began: float) -> None:
    print(f"[{time.monotonic() - began:5.0f} s] virtual environment: {what}", file=sys.stderr, flush=True)
