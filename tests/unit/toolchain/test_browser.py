"""What measures pages: installed once, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from infra.toolchain import browser
from infra.toolchain.errors import ToolchainError
from infra.toolchain.progress import Progress

NPM = """#!/bin/sh
echo "$@" >> "$DOUBLE/calls"
[ ! -e "$DOUBLE/broken" ] || { echo 'npm error EINTEGRITY'; exit 1; }
mkdir -p node_modules/lighthouse/cli && touch node_modules/lighthouse/cli/index.js
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where everything but Lighthouse is installed, and npm is made up."""
    programs = {"npm": NPM, "node": "#!/bin/sh\necho v20.1.0\n", "chromium": "", "certutil": ""}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOUBLE", str(tmp_path))
    return tmp_path


def test_is_installed_once(home: Path) -> None:
    assert browser.missing() == ["lighthouse"]
    assert browser.ensure(Progress()) == browser.ensure(Progress())
    assert browser.missing() == []
    found = browser.find()
    assert found is not None
    assert found.chromium == home / "chromium"
    assert found.lighthouse.is_file()
    (call,) = (home / "calls").read_text().splitlines()
    assert call.startswith("ci ")
    assert "--ignore-scripts" in call


def test_what_fails_leaves_nothing_that_passes_for_it(home: Path) -> None:
    (home / "broken").touch()
    with pytest.raises(ToolchainError, match="EINTEGRITY"):
        browser.ensure(Progress())
    assert browser.missing() == ["lighthouse"]
    assert not list(browser.home().parent.glob(".new-*"))
    (home / "broken").unlink()
    browser.ensure(Progress())
    assert browser.missing() == []


def test_an_old_node_is_refused(home: Path) -> None:
    (home / "node").write_text("#!/bin/sh\necho v16.20.2\n")
    with pytest.raises(ToolchainError, match=r"node is v16.20.2; Lighthouse needs 18 or newer"):
        browser.ensure(Progress())


def test_the_lock_file_names_checksums_and_no_places() -> None:
    lock = json.loads((REPOSITORY / "toolchain" / "lighthouse" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 100
    assert [name for name, entry in packages.items() if "integrity" not in entry] == []
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
