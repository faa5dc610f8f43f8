"""No value of a secret appears where it must not: encrypted file, arguments, environment, logs (SEC-4)."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra import paths
from infra.record.directory import DirectoryStore
from infra.secretstore import SecretStoreError, SopsStore, open_store

CANARY = "c4n4ry-Va1ue-0f-a-s3cret"

_SPY = """#!/bin/sh
for pid in $$ $PPID; do
    cat "/proc/$pid/cmdline" "/proc/$pid/environ" >> "{seen}"
    printf '\\n' >> "{seen}"
done
exec "{sops}" "$@"
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What /proc shows of `sops` and of who calls it, at every call."""
    real = shutil.which("sops")
    assert real, "sops is not on PATH: python -m infra.toolchain ensure"
    seen, directory = tmp_path / "seen", tmp_path / "bin"
    directory.mkdir()
    spy = directory / "sops"
    spy.write_text(_SPY.format(seen=seen, sops=real))
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return seen


def holders(root: Path) -> list[Path]:
    """Files below a directory that hold the canary."""
    return [path for path in root.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_a_value_is_in_memory_only(
    store: SopsStore, directory: DirectoryStore, seen: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store.put("redis-password", CANARY, by="alice")
    assert open_store({}, "production", record=directory).get("redis-password") == CANARY

    shown = seen.read_bytes()
    assert b"--encrypted-regex" in shown
    assert b"decrypt" in shown
    assert CANARY.encode() not in shown
    assert CANARY not in caplog.text
    assert holders(tmp_path) == []


def test_errors_do_not_repeat_values(
    store: SopsStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sops").write_text('#!/bin/sh\necho "cannot write" >&2\nexit 1\n')
    (broken / "sops").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")

    with pytest.raises(SecretStoreError, match="sops encrypt exited with 1: cannot write") as caught:
        store.put("redis-password", CANARY, by="alice")

    assert CANARY not in repr(caught.value)
    assert CANARY not in str(caught.value)


def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.secretstore", *arguments],
        cwd=paths.REPOSITORY,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_show_a_value_only_when_told_to(seen: Path, identity: Path, tmp_path: Path) -> None:
    store = ("--stack", "production", "--url", f"file://{tmp_path}/record")

    done = command("set", "redis-password", *store, given=f"{CANARY}\n")
    assert done.returncode == 0, done.stderr
    for arguments in (
        ("get", "redis-password"),
        ("list",),
        ("list", "--json"),
        ("where", "redis-password"),
        ("get", "otlp-token"),
        ("set", "no-such-secret"),
    ):
        shown = command(*arguments, *store, given=CANARY)
        assert CANARY not in shown.stdout + shown.stderr, arguments
        assert "Traceback" not in shown.stderr
        assert shown.stdout + shown.stderr
    assert CANARY not in done.stdout + done.stderr
    assert CANARY.encode() not in seen.read_bytes()
    assert holders(tmp_path) == []
    assert command("get", "redis-password", "--reveal", *store).stdout == CANARY


def test_commands_say_what_is_known(identity: Path, tmp_path: Path) -> None:
    store = ("--stack", "production", "--url", f"file://{tmp_path}/record")
    command("set", "redis-password", *store, given="x")

    listing = command("list", *store).stdout
    assert "redis-password" in listing
    assert "missing" in listing
    assert "world-ca-key" not in listing, "production has no outside world of ours"
    where = command("where", "redis-password", *store).stdout
    assert f"file://{tmp_path}/record/secrets.sops.yaml" in where
    assert "SOPS_AGE_KEY_FILE: used" in where
    missing = command("get", "otlp-token", *store)
    assert missing.returncode == 1
    assert "set it with: python -m infra.secretstore set otlp-token --stack production" in missing.stderr
