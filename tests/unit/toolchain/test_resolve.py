"""Resolution order: PATH where the version fits, else the cache, else a build; builds are all or nothing."""

from __future__ import annotations

import shutil
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra import paths
from infra.toolchain import build, ensure, resolve
from infra.toolchain.errors import ToolchainError
from infra.toolchain.pins import Pin, load
from infra.toolchain.progress import Progress
from infra.toolchain.resolve import Source, fits, is_static, on_path, search_path


def script(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def pin(root: Path, name: str = "tool", path: str = "", extra: str = "") -> Pin:
    folder = root / "pins" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text(f"module toolchain.local/{name}\n")
    (folder / "tool.toml").write_text(
        f'version = "1.2.3"\nbinaries = ["{name}"]\ngroups = ["up"]\n{extra}\n{path}\n'
        '[go]\npackage = "example.invalid/tool"\nldflags = "-X main.version={version}"\n'
    )
    return load(folder)


PROBED = '[path]\nprobe = ["--version"]\naccepts = ">=1.2,<2"\n'


@pytest.mark.parametrize(
    ("version", "accepts", "expected"),
    [
        ("1.2.3", ">=1.2,<2", True),
        ("2.0.0", ">=1.2,<2", False),
        ("1.10.0", ">=1.9", True),
        ("0.31.4", "==0.31.*", True),
        ("2.0.0-rc1", ">=1", False),
        ("nonsense", ">=1", False),
    ],
)
def test_fits(version: str, accepts: str, expected: bool) -> None:
    assert fits(version, accepts) is expected


def test_first_directory_whose_version_fits_wins(tmp_path: Path) -> None:
    old = script(tmp_path / "a" / "tool", "echo tool v1.1.9").parent
    good = script(tmp_path / "b" / "tool", "echo tool v1.4.0 >&2").parent
    other = script(tmp_path / "c" / "tool", "echo tool v1.5.0").parent
    found = on_path(pin(tmp_path, path=PROBED), {}, (old, good, other))
    assert found is not None
    assert (found.source, found.version, found.binary) == (Source.PATH, "1.4.0", good / "tool")


@pytest.mark.parametrize(
    "text", ["exit 3; echo v1.4.0", "echo v1.4.0; exit 3", "echo no version", "echo v2.0.0"]
)
def test_what_does_not_answer_or_fit_is_passed_over(tmp_path: Path, text: str) -> None:
    directory = script(tmp_path / "a" / "tool", text).parent
    assert on_path(pin(tmp_path, path=PROBED), {}, (directory,)) is None


def test_what_must_be_static_is_not_taken_when_it_is_a_script(tmp_path: Path) -> None:
    directory = script(tmp_path / "a" / "tool", "echo v1.4.0").parent
    assert on_path(pin(tmp_path, path=PROBED, extra="static = true"), {}, (directory,)) is None


def test_own_directories_are_not_the_users_path() -> None:
    own = [paths.cache_home() / "tools" / "x", paths.tools_bin(), paths.virtual_environment() / "bin"]
    value = ":".join(map(str, [*own, "/usr/bin", "relative", "", "/usr/bin", "/bin"]))
    assert search_path(value) == (Path("/usr/bin"), Path("/bin"))


def test_a_link_into_the_cache_is_not_path(tmp_path: Path) -> None:
    built = script(paths.cache_home() / "tools" / "tool" / "k" / "tool", "echo v1.4.0")
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "tool").symlink_to(built)
    assert on_path(pin(tmp_path, path=PROBED), {}, (directory,)) is None


def test_beside_follows_the_tool_that_it_lies_beside(tmp_path: Path) -> None:
    main = pin(tmp_path, path=PROBED)
    helper = pin(tmp_path, "helper", path='[path]\nbeside = "tool"\n')
    directory = script(tmp_path / "a" / "tool", "echo v1.4.0").parent
    tool = on_path(main, {}, (directory,))
    assert tool is not None
    assert on_path(helper, {"tool": tool}, (directory,)) is None
    script(directory / "helper", "true")
    found = on_path(helper, {"tool": tool}, (directory,))
    assert found is not None
    assert found.version == "1.4.0"
    cached = resolve.Tool(main, "1.2.3", Source.CACHE, {"tool": directory / "tool"})
    assert on_path(helper, {"tool": cached}, (directory,)) is None


def elf(file: Path, *segments: int) -> Path:
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, len(segments))
    file.write_bytes(bytes(head) + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in segments))
    return file


def test_is_static(tmp_path: Path) -> None:
    assert is_static(elf(tmp_path / "static", 1, 1))
    assert not is_static(elf(tmp_path / "dynamic", 1, 3, 1))
    assert not is_static(script(tmp_path / "script", "true"))


@dataclass
class FakeGo:
    """Stands in for the `go` command: writes what `-o` names, or fails halfway."""

    fail: bool = False
    runs: list[tuple[str, ...]] = field(default_factory=list)
    hold: threading.Event | None = None

    def __call__(self, name: str, command: tuple[object, ...], **rest: object) -> str:
        words = tuple(map(str, command))
        self.runs.append(words)
        target = Path(words[words.index("-o") + 1])
        target.write_text("half")
        if self.hold is not None:
            self.hold.wait(10)
        if self.fail:
            raise ToolchainError(f"{name}: build failed")
        script(target, "echo v1.2.3")
        return ""


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    fake = FakeGo()
    monkeypatch.setattr(build, "logged", fake)
    return fake


def make(tool: Pin) -> resolve.Tool:
    def no_tools(name: str) -> resolve.Tool:
        raise AssertionError(name)

    return build.build(tool, Path("/fake/go"), no_tools, Progress())


def test_a_build_fills_the_cache_once(tmp_path: Path, go: FakeGo) -> None:
    tool = pin(tmp_path)
    first, second = make(tool), make(tool)
    assert (first.source, second.source) == (Source.BUILT, Source.CACHE)
    assert len(go.runs) == 1
    assert "-s -w -X main.version=1.2.3" in go.runs[0]
    assert first.binary == paths.cache_home() / "tools" / "tool" / tool.key / "tool"


def test_a_build_that_fails_leaves_nothing_that_passes_for_a_tool(tmp_path: Path, go: FakeGo) -> None:
    tool = pin(tmp_path)
    go.fail = True
    with pytest.raises(ToolchainError, match="build failed"):
        make(tool)
    assert resolve.cached(tool) is None
    go.fail = False
    assert make(tool).source is Source.BUILT


def test_what_a_killed_build_left_is_swept_and_built_again(tmp_path: Path, go: FakeGo) -> None:
    tool = pin(tmp_path)
    leftover = resolve.home(tool).parent / ".killed" / "out" / "tool"
    script(leftover, "echo v1.2.3")
    resolve.home(tool).mkdir(parents=True)
    assert make(tool).source is Source.BUILT
    assert not leftover.exists()
    assert [entry.name for entry in resolve.home(tool).parent.iterdir()] == [tool.key]


def test_two_runs_at_once_build_once(tmp_path: Path, go: FakeGo) -> None:
    tool = pin(tmp_path)
    go.hold = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(make, tool) for _ in range(2)]
        go.hold.set()
        sources = sorted(str(future.result().source) for future in both)
    assert sources == sorted([str(Source.BUILT), str(Source.CACHE)])
    assert len(go.runs) == 1


def test_go_environment_is_pinned_against_the_users_settings() -> None:
    user = {"GOFLAGS": "-mod=mod", "CGO_ENABLED": "1", "GOTOOLCHAIN": "auto", "GOWORK": "/x", "PATH": "/bin"}
    made = build.go_environment(user, Path("/go/bin/go"))
    assert made["CGO_ENABLED"] == "0"
    assert "-mod=readonly" in made["GOFLAGS"]
    assert (made["GOTOOLCHAIN"], made["GOWORK"]) == ("local", "off")
    assert made["PATH"] == "/go/bin:/bin"
    assert Path(made["GOMODCACHE"]).is_relative_to(paths.cache_home())


@pytest.fixture
def image_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "build" / "tools"
    monkeypatch.setattr(paths, "image_tools", lambda: home)
    return home


def test_copies_for_images_are_whole_executable_and_left_alone_when_right(
    tmp_path: Path, image_tools: Path
) -> None:
    source = script(tmp_path / "cache-tool" / "tool", "echo v1.2.3")
    source.chmod(0o700)
    tool = resolve.Tool(pin(tmp_path), "1.2.3", Source.CACHE, {"tool": source})
    ensure.copy_for_images([tool])
    copy = image_tools / "tool" / "tool"
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o755
    inode = copy.stat().st_ino
    ensure.copy_for_images([tool])
    assert copy.stat().st_ino == inode
    script(source, "echo v1.2.4")
    ensure.copy_for_images([tool])
    assert copy.read_bytes() == source.read_bytes()
    assert [entry.name for entry in image_tools.iterdir()] == ["tool"]


def test_tools_on_path_are_the_same_file_as_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_home = tmp_path / "build" / "bin"
    monkeypatch.setattr(paths, "tools_bin", lambda: bin_home)
    source = script(tmp_path / "cache-tool" / "tool", "echo v1.2.3")
    made = pin(tmp_path)
    user = resolve.Tool(made, "1.2.3", Source.PATH, {"tool": source})
    cached = resolve.Tool(made, "1.2.3", Source.CACHE, {"tool": source})
    ensure.link_tools([user])
    assert (bin_home / "tool").readlink() == source
    for _ in range(2):
        ensure.link_tools([cached])
        assert not (bin_home / "tool").is_symlink()
        assert (bin_home / "tool").samefile(source)
    hidden = pin(tmp_path, "plugin").model_copy(update={"groups": ()})
    ensure.link_tools([resolve.Tool(hidden, "1.2.3", Source.CACHE, {"plugin": source})])
    assert [entry.name for entry in bin_home.iterdir()] == ["tool"]
    script(bin_home / "dropped", "true")
    ensure.unlink_others([made, hidden])
    assert [entry.name for entry in bin_home.iterdir()] == ["tool"]


def test_toolchain_takes_path_then_cache_then_builds(
    tmp_path: Path, go: FakeGo, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = script(tmp_path / "a" / "tool", "echo v1.4.0").parent
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    compiler = resolve.Tool(pin(tmp_path, "go"), "1.26.0", Source.PATH, {"go": Path("/fake/go")})

    def source() -> Source:
        chain = ensure.Toolchain(Progress(), {"tool": pin(tmp_path, path=PROBED)})
        chain.tools["go"] = compiler
        return chain.tool("tool").source

    assert source() is Source.PATH
    shutil.rmtree(directory)
    assert source() is Source.BUILT
    assert source() is Source.CACHE
