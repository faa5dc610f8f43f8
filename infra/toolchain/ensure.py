"""Has everything that a group of commands needs; runs in the virtual environment."""

from __future__ import annotations

import filecmp
import os
import shutil
import ssl
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from infra import paths
from infra.toolchain import base, browser, build, builder, debian, engine, plugins, resolve, venv
from infra.toolchain.errors import ToolchainError
from infra.toolchain.groups import Group
from infra.toolchain.pins import Pin, load_all
from infra.toolchain.plugins import Installed
from infra.toolchain.progress import Progress
from infra.toolchain.resolve import Source, Tool
from infra.toolchain.table import show

# Compilers use every core already; a second job fills the time in which the first one downloads.
JOBS = 2

_PROGRAM_GROUPS = {Group.PREVIEW, Group.UP}
_ENGINE = "pulumi"
_DAEMON = "buildkitd"
_CONTROLLER = ("git",)
_DEBIAN_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_LOCAL_CONTROLLER = ("git", "ssh", "ssh-keygen")


class Toolchain:
    """The tools of one run, each resolved once."""

    def __init__(self, progress: Progress, pins: dict[str, Pin] | None = None) -> None:
        self._progress = progress
        self._pins = pins if pins is not None else load_all()
        self._search = resolve.search_path()
        self.tools: dict[str, Tool] = {}

    def tool(self, name: str) -> Tool:
        """Return one tool, built if need be.

        Raises:
            ToolchainError: if it has no pins or can't be built.
        """
        if name not in self.tools:
            if name not in self._pins:
                raise ToolchainError(f"no pins for {name}; known: {', '.join(self._pins)}")
            pin = self._pins[name]
            found = resolve.on_path(pin, self.tools, self._search) or resolve.cached(pin)
            self.tools[name] = found or self._build(pin)
        return self.tools[name]

    @property
    def pins(self) -> Iterable[Pin]:
        """All pins."""
        return self._pins.values()

    def executable(self, name: str) -> Path | None:
        """Return the executable of the tool `name`, built if need be; None where it has no pins."""
        return self.tool(name).binary if name in self._pins else None

    def ensure(self, groups: Iterable[str]) -> list[Pin]:
        """Resolve the tools of the groups; return the pins of those that are still to be built."""
        absent: list[Pin] = []
        for pin in resolve.needed(self._pins, set(groups)):
            found = resolve.on_path(pin, self.tools, self._search) or resolve.cached(pin)
            if found is None:
                absent.append(pin)
            else:
                self.tools[pin.name] = found
        if any(pin.go is not None for pin in absent):
            # Before threads start: every build needs it.
            self.tool("go")
        return absent

    def _build(self, pin: Pin) -> Tool:
        go = self.tool("go").binary if pin.go is not None else None
        return build.build(pin, go, self.tool, self._progress)


def run(groups: Sequence[str], *, table: bool) -> int:
    """Have everything that the groups need; print a table of it if asked to.

    Raises:
        ToolchainError: telling what is missing and what to do.
    """
    began = time.monotonic()
    progress = Progress()
    toolchain = Toolchain(progress)
    wanted = set(groups)
    local = Group.UP in wanted
    rows: list[tuple[str, str, str]] = []
    installed: list[Installed] = []
    with progress.shown(), ThreadPoolExecutor(max_workers=JOBS) as pool:
        debian.install(_commands(local), progress)
        if Group.BROWSER in wanted:
            browser.ensure(progress)
            rows.append(("lighthouse", browser.version(), "cache (npm)"))
        absent = toolchain.ensure(wanted)
        try:
            layout: Future[Path] | None = None
            image: Future[str] | None = None
            program: Future[list[Installed]] | None = None
            if local:
                # First, since they mostly wait for what they fetch: nothing else then waits for them.
                rows.append(("docker engine", engine.ensure(progress), "running"))
                layout = pool.submit(base.ensure, progress) if base.available() else None
                image = pool.submit(builder.ensure_image, progress)
            if wanted & _PROGRAM_GROUPS:
                program = pool.submit(_program, toolchain, progress)
            jobs = {pin.name: pool.submit(toolchain.tool, pin.name) for pin in absent if pin.name != _ENGINE}
            if layout is not None:
                layout.result()
            if image is not None:
                daemon = jobs[_DAEMON].result() if _DAEMON in jobs else toolchain.tool(_DAEMON)
                builder.ensure(image.result(), daemon, progress)
            for job in jobs.values():
                job.result()
            if program is not None:
                installed = program.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if absent:
            build.drop_compiled()
        link_tools(toolchain.tools.values())
        unlink_others(toolchain.pins)
        copy_for_images(tool for tool in toolchain.tools.values() if tool.pin.image)
        if local:
            copy_trust()
    if table:
        show(toolchain.tools.values(), rows, installed)
    elif time.monotonic() - began > 1:
        print(f"toolchain ready ({time.monotonic() - began:.0f} s)")
    return 0


def _commands(local: bool) -> tuple[str, ...]:
    """Return the commands that the controller needs of the system."""
    if not local:
        return _CONTROLLER
    return (*_LOCAL_CONTROLLER, *(base.COMMANDS if base.available() else ()))


def _program(toolchain: Toolchain, progress: Progress) -> list[Installed]:
    """Have Pulumi's engine, then its plugins: which of them must be built, only the engine finds out."""
    link_tools([toolchain.tool(_ENGINE)])
    return plugins.ensure(toolchain.executable, progress)


def link_tools(tools: Iterable[Tool]) -> None:
    """Put each tool that a group names into the checkout's own directory, which `env.sh` puts on PATH.

    Hard links, where they can be made: Pulumi looks for its language host beside its own executable, and a
    symbolic link hides where that is. Plugins and compilers are left out: nobody starts them by name.
    """
    for tool in tools:
        if not tool.pin.groups:
            continue
        for name, file in tool.binaries.items():
            at = paths.tools_bin() / name
            if tool.source is Source.PATH:
                venv.link(at, file)
            elif at.is_symlink() or not at.exists() or not filecmp.cmp(at, file, shallow=True):
                _put(file, at)


def unlink_others(pins: Iterable[Pin]) -> None:
    """Take away what an earlier version of the pins put on PATH."""
    known = {name for pin in pins if pin.groups for name in pin.binaries}
    for entry in paths.tools_bin().iterdir():
        if entry.name not in known and not entry.name.startswith("."):
            entry.unlink()


def _put(file: Path, at: Path) -> None:
    """Make `at` the same file as `file`, or a copy of it on another file system, in one step."""
    at.parent.mkdir(parents=True, exist_ok=True)
    aside = at.with_name(f".{at.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(file)
    except OSError:
        shutil.copy2(file, aside)
    aside.replace(at)


def copy_for_images(tools: Iterable[Tool]) -> None:
    """Copy binaries to where images take them from."""
    for tool in tools:
        for name, file in tool.binaries.items():
            _copy(file, paths.image_tools() / tool.pin.name / name, 0o755)


def copy_trust() -> None:
    """Copy the certificate authorities that this machine trusts to where image builds mount them from."""
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or _DEBIAN_BUNDLE
    _copy(Path(bundle), paths.image_trust() / "ca-certificates.crt", 0o644)


def _copy(file: Path, to: Path, mode: int) -> None:
    """Copy in one step; a copy whose content is right is left alone."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.is_file() and filecmp.cmp(file, to, shallow=True):
        return
    aside = to.parent.parent / f".{to.name}.{os.getpid()}"
    shutil.copyfile(file, aside)
    aside.chmod(mode)
    stamp = file.stat()
    os.utime(aside, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    aside.replace(to)
