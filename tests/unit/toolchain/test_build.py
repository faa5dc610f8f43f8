"""What a build leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.toolchain import build, locks


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("infra.paths.cache_home", lambda: tmp_path)
    kept = Path(build.go_environment({}, Path("/usr/bin/go"))["GOCACHE"])
    kept.mkdir(parents=True)
    (kept / "package").touch()
    return kept


def test_what_the_compiler_kept_is_removed(compiled: Path) -> None:
    build.drop_compiled()
    assert not compiled.exists()


def test_it_stays_while_another_run_builds(compiled: Path, tmp_path: Path) -> None:
    with locks.shared(tmp_path / "locks" / "compiled.lock"):
        build.drop_compiled()
        assert compiled.exists()
    build.drop_compiled()
    assert not compiled.exists()
