"""The mirror is the one that this machine's apt sources name, in either of their forms."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from infra.toolchain import base, debian
from infra.toolchain.debian import Mirror, Source, mirror, sources
from infra.toolchain.errors import ToolchainError
from infra.toolchain.progress import Progress

DEB822 = """\
# of the installer
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites:
 bookworm-security
Components: main

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb-src http://sources.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian bookworm main  # here
deb http://mirror.example/debian-security bookworm-security main
deb [ arch=amd64 ] https://other.example/apt cloud main
"""


def apt(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_deb822(tmp_path: Path) -> None:
    assert sources(apt(tmp_path, {"sources.list.d/debian.sources": DEB822})) == [
        Source("http://mirror.example/debian", ("bookworm", "bookworm-updates")),
        Source("http://mirror.example/debian-security", ("bookworm-security",)),
    ]


def test_one_line(tmp_path: Path) -> None:
    found = sources(apt(tmp_path, {"sources.list": ONE_LINE, "sources.list.d/x.list.save": ONE_LINE}))
    assert found == [
        Source("http://mirror.example/debian", ("bookworm",)),
        Source("http://mirror.example/debian-security", ("bookworm-security",)),
        Source("https://other.example/apt", ("cloud",)),
    ]


@pytest.mark.parametrize("form", [{"sources.list.d/d.sources": DEB822}, {"sources.list": ONE_LINE}])
def test_mirror(tmp_path: Path, form: dict[str, str]) -> None:
    assert mirror(sources(apt(tmp_path, form)), "bookworm") == Mirror(
        "http://mirror.example/debian", "http://mirror.example/debian-security"
    )


def test_no_mirror_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=debian.MIRROR_VARIABLE):
        mirror(sources(apt(tmp_path, {"sources.list": ONE_LINE})), "noble")


def test_own_choice_of_a_mirror() -> None:
    assert mirror([], "noble", "http://near.example/debian/") == Mirror("http://near.example/debian", None)


def test_missing_packages_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command, path=None: "/x" if command == "git" else None)
    assert debian.missing(["git", "ssh", "ssh-keygen", "mmdebstrap"]) == ["openssh-client", "mmdebstrap"]


def test_without_root_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "missing", lambda commands: ["mmdebstrap"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda command, path=None: "/usr/bin/apt-get")
    with pytest.raises(ToolchainError, match="apt-get install mmdebstrap"):
        debian.install(["mmdebstrap"], Progress())


def test_base_key_follows_packages_and_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_source_lines", lambda: ["deb http://a.example trixie main"])
    first = base.layout()
    assert first == base.layout()
    assert base.rootfs_home((*base.PACKAGES, "runc")) != first.parent
    monkeypatch.setattr(base, "_source_lines", lambda: ["deb http://b.example trixie main"])
    assert base.layout() != first


def test_layout_is_content_addressed_and_repeatable(tmp_path: Path) -> None:
    indexes = []
    for name in ("one", "two"):
        tar = tmp_path / f"{name}.tar"
        tar.write_bytes(b"layer")
        base.write_layout(tar, tmp_path / name)
        indexes.append((tmp_path / name / "index.json").read_text())
        assert not tar.exists()
    assert indexes[0] == indexes[1]
    blobs = sorted(file.name for file in (tmp_path / "one" / "blobs" / "sha256").iterdir())
    assert len(blobs) == 3
    digests = [
        hashlib.sha256((tmp_path / "one/blobs/sha256" / blob).read_bytes()).hexdigest() for blob in blobs
    ]
    assert digests == blobs


def test_base_can_be_made_only_where_debians_packages_are_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(debian.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr(debian, "sources", lambda: sources(apt(tmp_path, {"sources.list": ONE_LINE})))
    monkeypatch.setattr(debian, "release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    assert base.available()
    monkeypatch.setattr(debian, "release", lambda: {"ID": "ubuntu", "VERSION_CODENAME": "bookworm"})
    assert not base.available()
    monkeypatch.setenv(debian.MIRROR_VARIABLE, "http://near.example/debian")
    assert base.available()
