"""Builds a tool from its pins into the cache: aside first, then renamed into place."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra import paths
from infra.toolchain import resolve
from infra.toolchain.commands import log_file, logged
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import alone, exclusive, shared
from infra.toolchain.pins import GoBuild, ModuleFiles, Pin, Wheel
from infra.toolchain.progress import Progress
from infra.toolchain.resolve import Source, Tool

_DOWNLOADING = re.compile(r"^go: downloading ")
_PACKAGE = re.compile(r"^[\w./~-]+$")


def build(pin: Pin, go: Path | None, tools: Callable[[str], Tool], progress: Progress) -> Tool:
    """Return the tool, built where another run has not done so meanwhile.

    `go` is needed for what is built from Go modules; `tools` gives a generator.

    Raises:
        ToolchainError: if a download, a checksum or the build fails.
    """
    home = resolve.home(pin)
    with exclusive(paths.cache_home() / "locks" / f"{pin.name}.lock"):
        found = resolve.cached(pin)
        if found is not None:
            return found
        home.parent.mkdir(parents=True, exist_ok=True)
        for leftover in home.parent.glob(".*"):
            shutil.rmtree(leftover)
        log_file(pin.name).unlink(missing_ok=True)
        with progress.job(pin.name), tempfile.TemporaryDirectory(prefix=".", dir=home.parent) as aside:
            work, out = Path(aside) / "work", Path(aside) / "out"
            out.mkdir()
            if pin.go is not None:
                if go is None:
                    raise ToolchainError(f"{pin.name}: Go is needed to build it")
                with shared(_compiled_lock()):
                    _go(_Shop(pin, work, out, progress), pin.go, go, tools)
            elif pin.pypi is not None:
                _wheel(pin, pin.pypi, work, out, progress)
            _seal(out)
            shutil.rmtree(home, ignore_errors=True)
            out.rename(home)
    built = resolve.cached(pin, Source.BUILT if pin.go else Source.PYPI)
    if built is None:
        raise ToolchainError(f"{pin.name}: the build gave no {', '.join(pin.binaries)}")
    return built


def drop_compiled() -> None:
    """Remove what the compiler kept for a next build, gigabytes by now; not while one is built."""
    with alone(_compiled_lock()) as free:
        if free:
            shutil.rmtree(_compiled(), ignore_errors=True)


def _compiled() -> Path:
    return paths.cache_home() / "go" / "build"


def _compiled_lock() -> Path:
    return paths.cache_home() / "locks" / "compiled.lock"


def go_environment(inherited: Mapping[str, str], go: Path) -> dict[str, str]:
    """Return the environment of a Go build: static, as pinned, with no setting of the user's left."""
    return {
        **inherited,
        "PATH": os.pathsep.join([str(go.parent), inherited.get("PATH", os.defpath)]),
        "CGO_ENABLED": "0",
        # No debugger ever reads these binaries, and without its data each package compiles faster.
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false -modcacherw -gcflags=all=-dwarf=false -pgo=off",
        # Memory for time: a compiler lives for a second.
        "GOGC": "400",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "GOMODCACHE": inherited.get("GOMODCACHE") or str(paths.cache_home() / "go" / "modules"),
        "GOCACHE": inherited.get("GOCACHE") or str(_compiled()),
    }


@dataclass(frozen=True)
class _Shop:
    """One build: where it works, where its binaries go, and with what."""

    pin: Pin
    work: Path
    out: Path
    progress: Progress

    def run(self, *command: str | Path, go: Path, each: Callable[[str], None] = lambda line: None) -> str:
        environment = go_environment(os.environ, go)
        return logged(self.pin.name, command, cwd=self.work, environment=environment, each=each)


def _go(shop: _Shop, how: GoBuild, go: Path, tools: Callable[[str], Tool]) -> None:
    pin = shop.pin
    shutil.copytree(pin.folder, shop.work)
    if how.generator is not None:
        shop.run(tools(how.generator.tool).binary, *how.generator.arguments, go=go)
        for file in ("go.mod", "go.sum"):
            shutil.copyfile(pin.folder / file, shop.work / file)
    downloads = packages = 0

    def tell(line: str) -> None:
        nonlocal downloads, packages
        if _DOWNLOADING.match(line):
            downloads += 1
        elif _PACKAGE.match(line):
            packages += 1
        shop.progress.phase(pin.name, f"{downloads} modules downloaded, {packages} packages compiled")

    flags = f"-s -w {how.ldflags.format(version=pin.version)}".strip()
    target = shop.out / pin.binaries[0]
    shop.run(go, "build", "-v", "-ldflags", flags, "-o", target, how.package, go=go, each=tell)
    if how.copy_from is not None:
        _copy_module_files(shop, how.copy_from, go)


def _copy_module_files(shop: _Shop, files: ModuleFiles, go: Path) -> None:
    answer = shop.run(go, "mod", "download", "-json", files.module, go=go)
    module = json.loads(answer[answer.index("{") :])
    if module.get("Sum") != files.sum:
        raise ToolchainError(
            f"{shop.pin.name}: {files.module} has checksum {module.get('Sum')}, pinned is {files.sum}"
        )
    for file in files.files:
        shutil.copyfile(Path(module["Dir"]) / file, shop.out / Path(file).name)


def _wheel(pin: Pin, wheel: Wheel, work: Path, out: Path, progress: Progress) -> None:
    work.mkdir()
    requirement = work / "requirement.txt"
    hashes = " ".join(f"--hash={value}" for value in wheel.hashes)
    requirement.write_text(f"{wheel.package}=={pin.version} {hashes}\n")
    progress.phase(pin.name, "download")
    logged(
        pin.name,
        [
            *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--no-input"),
            *("--progress-bar", "off", "--disable-pip-version-check", "--only-binary", ":all:"),
            *("--require-hashes", "-r", requirement, "--target", work / "wheel"),
        ],
    )
    progress.phase(pin.name, "unpack")
    for name, place in wheel.files.items():
        source = work / "wheel" / place
        if not source.is_file():
            raise ToolchainError(f"{pin.name}: {wheel.package} {pin.version} holds no {place}")
        if not wheel.whole:
            source.replace(out / name)
    if wheel.whole:
        (work / "wheel").replace(out / "wheel")
        for name, place in wheel.files.items():
            (out / name).symlink_to(Path("wheel") / place)


def _seal(out: Path) -> None:
    """Make everything executable and durable before it is renamed: a crash then leaves all or nothing."""
    for file in out.iterdir():
        if file.is_dir():
            continue
        file.resolve().chmod(0o755)
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
