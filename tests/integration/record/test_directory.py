"""What only the directory driver promises: private files, and survival of killed writers."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import paths
from infra.record import StoreUnavailableError, directory
from infra.record.directory import DirectoryStore

_WRITER = """
import json, sys
from pathlib import Path
from infra.record.directory import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
print("ready", flush=True)
number = 0
while True:
    number += 1
    found = store.get("key")
    store.put_if_match("key", json.dumps([number] * 5000).encode(), found.version)
    store.put_if_absent(f"made/{sys.argv[2]}-{number}", json.dumps([number] * 500).encode())
"""


def test_files_are_private(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "record")
    store.put_if_absent("folder/key", b"x")

    for path in (tmp_path / "record").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o700


def test_killed_writers_leave_no_torn_object_and_no_lock(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put_if_absent("key", b"[]")
    pause = random.Random(3)  # noqa: S311

    for number in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(number)],
            cwd=paths.REPOSITORY,
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(pause.uniform(0.005, 0.06))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()

        began = time.monotonic()
        values = json.loads(store.get("key").data)
        assert len(values) in (0, 5000)
        assert len(set(values)) <= 1
        store.put_if_absent(f"after/{number}", b"x")
        assert time.monotonic() - began < 1

    made = store.list("made")
    assert made
    assert all(len(json.loads(store.get(key).data)) == 500 for key in made)


def test_a_writer_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_LOCK_TIMEOUT", 0.1)
    store = DirectoryStore(tmp_path)
    store.put_if_absent("key", b"x")
    holder = subprocess.Popen(
        ["flock", "--no-fork", str(tmp_path / ".lock"), "sh", "-c", "echo held; exec sleep 60"],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreUnavailableError, match=r"another writer has held \.lock.*fuser"):
            store.put_if_absent("other", b"x")
        assert store.get("key").data == b"x"
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    subprocess.run(["flock", "--timeout", "5", str(tmp_path / ".lock"), "true"], check=True)


def test_an_unusable_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(
        StoreUnavailableError, match=r"store file://.*/file/record is not available: Not a directory"
    ):
        DirectoryStore(tmp_path / "file" / "record").put_if_absent("key", b"x")
