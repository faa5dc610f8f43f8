"""The module that takes backups, on a host whose engine, database and age are made up."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ansible.conftest import PLUGINS, load_plugin

NAME = "20261120T020000Z-primary"
RECIPIENT = "age1recipient"
DUMP = "dump of canary rows\n" * 3000

# What `psql` is asked is kept; every question is answered by what it is about. `FAULT` breaks one thing.
DOCKER = r"""#!/usr/bin/env python3
import os, sys
home, fault = os.environ["DOUBLE"], os.environ.get("FAULT", "")
words = sys.argv[1:]
def note(text):
    with open(home + "/said", "a") as file:
        file.write(text + "\n")
note(" ".join(words))
if words[0] == "ps":
    print("" if fault == "stopped" else "cid")
    sys.exit()
program = next(word for word in words[1:] if word in ("psql", "pg_dump", "pg_restore", "bash"))
if program == "bash":
    print("Avail\n" + ("1000" if fault == "full" else str(10**12)))
elif program == "pg_dump":
    if "--version" in words:
        print("pg_dump 17")
    else:
        sys.stdout.write(open(home + "/dump").read())
        if fault == "dump":
            print("pg_dump: error: query failed: canary\nCONTEXT: canary", file=sys.stderr)
            sys.exit(1)
elif program == "pg_restore":
    data = sys.stdin.read()
    open(home + "/restored", "w").write(data)
    if fault == "restore":
        print('pg_restore: error: could not execute query\nCONTEXT: COPY t: "canary"', file=sys.stderr)
        sys.exit(1)
else:
    scratch = "--dbname=icupa_backup_check" in " ".join(words)
    for line in sys.stdin:
        note("sql " + line.rstrip())
        if line.startswith("\\echo"):
            print("-- end of answer --", flush=True)
        elif "pg_database_size" in line:
            print(5000)
        elif "pg_export_snapshot" in line:
            print("00000003-1")
        elif "server_version" in line:
            print("17.5")
        elif "version_num" in line:
            print("0001")
        elif "\\gexec" in line and "nspname, c.relname" in line:
            if fault == "empty":
                continue
            rows = 2 if scratch and fault == "lost row" else 3
            content = "8" if scratch and fault == "changed row" else "7"
            print('{"name": "public.vouchers", "rows": %d, "content": "%s"}' % (rows, content))
            if not (scratch and fault == "lost table"):
                print('{"name": "public.alembic_version", "rows": 1, "content": "1"}')
"""
AGE = r"""#!/usr/bin/env python3
import os, sys
home = os.environ["DOUBLE"]
with open(home + "/said", "a") as file:
    file.write("age " + " ".join(sys.argv[1:]) + "\n")
if "--version" in sys.argv:
    print("1.2")
elif "-d" in sys.argv:
    if sys.stdin.read().strip() != "AGE-SECRET-KEY-ONE-TIME":
        print("age: error: no identity matched", file=sys.stderr)
        sys.exit(1)
    data = open(sys.argv[-1], "rb").read()
    sys.stdout.buffer.write(bytes(octet ^ 255 for octet in data))
else:
    sys.stdout.buffer.write(bytes(octet ^ 255 for octet in sys.stdin.buffer.read()))
    if os.environ.get("FAULT") == "age":
        print("age: error: failed", file=sys.stderr)
        sys.exit(1)
"""
KEYGEN = """#!/bin/sh
if [ "$1" = -y ]; then cat > /dev/null; echo age1onetime; else echo AGE-SECRET-KEY-ONE-TIME; fi
"""


@dataclass
class Host:
    """A machine with doubles on its PATH."""

    home: Path

    @property
    def directory(self) -> Path:
        """Where its backups are."""
        return self.home / "backups"

    @property
    def said(self) -> str:
        """Commands and SQL, in order."""
        return (self.home / "said").read_text()

    def run(self, fault: str = "", **changes: Any) -> dict[str, Any]:
        """The module as Ansible runs it."""
        arguments = {
            "project": "agents-service",
            "database": "agents",
            "directory": str(self.directory),
            "id": NAME,
            "recipient": RECIPIENT,
            "part_size": 25000,
            **changes,
        }
        done = subprocess.run(
            [sys.executable, str(PLUGINS / "modules" / "postgres_backup.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={"PATH": f"{self.home}/bin:{os.environ['PATH']}", "DOUBLE": str(self.home), "FAULT": fault},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "bin").mkdir()
    for name, text in {"docker": DOCKER, "age": AGE, "age-keygen": KEYGEN}.items():
        program = tmp_path / "bin" / name
        program.write_text(text)
        program.chmod(0o755)
    (tmp_path / "dump").write_text(DUMP)
    return Host(tmp_path)


def test_a_backup_is_encrypted_proven_and_described(host: Host) -> None:
    result = host.run()
    assert result.get("failed") is None, result
    backup = result["backup"]
    data = (host.directory / NAME / "database.dump.age").read_bytes()

    assert b"canary" not in data
    assert bytes(octet ^ 255 for octet in data).decode() == DUMP == (host.home / "restored").read_text()
    assert backup["sha256"] == hashlib.sha256(data).hexdigest()
    assert backup["plain_sha256"] == hashlib.sha256(DUMP.encode()).hexdigest()
    assert [part["size"] for part in backup["parts"]] == [25000, 25000, 10000]
    assert backup["parts"][2]["sha256"] == hashlib.sha256(data[50000:]).hexdigest()
    assert backup["tables"]["public.vouchers"] == {"rows": 3, "content": "7"}
    assert (backup["revision"], backup["server_version"], backup["database_size"]) == ("0001", "17.5", 5000)
    assert json.loads((host.directory / NAME / "manifest.json").read_text()) == backup
    assert "age -r age1recipient -r age1onetime" in host.said
    assert "--snapshot=00000003-1" in host.said
    assert "AGE-SECRET-KEY" not in host.said


def test_only_root_may_read_it(host: Host) -> None:
    host.run()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (host.directory, *host.directory.rglob("*"))}
    assert modes == {
        "backups": 0o700,
        NAME: 0o700,
        ".lock": 0o600,
        "database.dump.age": 0o600,
        "manifest.json": 0o600,
    }


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("stopped", "0 containers of postgres run, there must be one"),
        ("full", "the database's own volume has 0 MiB free"),
        ("dump", "pg_dump ended with 1: pg_dump: error: query failed"),
        ("age", "age ended with 1: age: error: failed"),
        ("empty", "database agents has no tables"),
        ("restore", "pg_restore ended with 1: pg_restore: error: could not execute query"),
        ("lost row", "public.vouchers has 2 rows instead of 3"),
        ("changed row", "public.vouchers has other contents"),
        ("lost table", "public.alembic_version is missing"),
    ],
)
def test_what_is_not_proven_is_no_backup(host: Host, fault: str, said: str) -> None:
    result = host.run(fault)
    assert result["failed"]
    assert said in result["msg"]
    assert "CONTEXT" not in result["msg"]
    assert [path.name for path in host.directory.rglob("*")] in ([], [".lock"])


def test_the_scratch_database_is_dropped_whatever_happens(host: Host) -> None:
    host.run("restore")
    sql = [line for line in host.said.splitlines() if line.startswith("sql ")]
    created = next(number for number, line in enumerate(sql) if "CREATE DATABASE icupa_backup_check_" in line)
    assert any("DROP DATABASE" in line for line in sql[:created]), "what a kill left goes first"
    assert any("DROP DATABASE" in line for line in sql[created:])


def test_what_a_killed_run_left_is_removed(host: Host) -> None:
    leftover = host.directory / ".new-20261119T020000Z-primary"
    leftover.mkdir(parents=True)
    (leftover / "database.dump.age").write_text("half")
    assert host.run()["backup"]["id"] == NAME
    assert not leftover.exists()


def test_the_newest_are_kept(host: Host) -> None:
    names = [f"2026111{day}T020000Z-primary" for day in range(4)]
    for name in names:
        (host.directory / name).mkdir(parents=True)
    (host.directory / "somebody's").mkdir()
    assert host.run(keep=2)["removed"] == names[:3]
    assert sorted(path.name for path in host.directory.iterdir()) == [".lock", names[3], NAME, "somebody's"]


def test_a_backup_is_never_overwritten(host: Host) -> None:
    host.run()
    result = host.run()
    assert result["failed"]
    assert "exists already" in result["msg"]
    assert (host.directory / NAME / "manifest.json").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [({"id": "../x"}, "is not the name of a backup"), ({"keep": 0}, "keep must be at least 1")],
)
def test_bad_input_is_refused_before_anything(host: Host, given: dict[str, Any], said: str) -> None:
    result = host.run(**given)
    assert result["failed"]
    assert said in result["msg"]
    assert not (host.home / "said").exists()


def test_a_dry_run_does_nothing(host: Host) -> None:
    result = host.run(_ansible_check_mode=True)
    assert (result["changed"], result["backup"]["id"]) == (True, NAME)
    assert not host.directory.exists()
    assert not (host.home / "said").exists()


def test_parts_are_read_back(host: Host) -> None:
    backup = host.run()["backup"]
    path = host.directory / NAME / "database.dump.age"

    def read(**given: Any) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, str(PLUGINS / "modules" / "backup_part.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"path": str(path), **given}}),
            capture_output=True,
            text=True,
            check=False,
        )
        return dict(json.loads(done.stdout))

    assert read(offset=25000, length=25000)["sha256"] == backup["parts"][1]["sha256"]
    assert read()["sha256"] == backup["sha256"]
    path.unlink()
    assert read()["exists"] is False


def test_a_time_limit_ends_all_of_it() -> None:
    module = load_plugin("modules", "postgres_backup")
    with module.Processes(0.2).limited() as processes:
        sleeping = processes.start(["sleep", "60"])
        with pytest.raises(module.BackupError, match="not done after 0 s"):
            sleeping.check()
