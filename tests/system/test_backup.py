"""Backups of the running stack: restored and compared by other means than those that took them (DB-2)."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from infra import local, paths
from infra.backup import Manifest, listed, load
from infra.outputs.read import read_outputs
from infra.record import Event, Record, Result, open_record
from infra.secrets.catalogue import BACKUP_IDENTITY
from infra.secretstore import open_store
from infra.smoke.checks import CUSTOMER, Smoke
from infra.smoke.target import find_target
from tests.running import STACK, command, machine, succeeds
from tests.system.killing import kill_after, spread, trace

pytestmark = pytest.mark.system

HOME = "/var/backups/icupa"
DATA = "database.dump.age"
POSTGRES = "agents-service-postgres-1"
KILLS = 2
"""On the way: before the first step and after the last one there is nothing to leave."""


def record() -> Record:
    """The stack's record."""
    return open_record(read_outputs(STACK).record)


def playbook(*options: str) -> list[str]:
    """Command of a backup."""
    return ["ansible-playbook", "ansible/playbooks/backup.yml", "-e", f"stack={STACK}", *options]


def latest() -> Manifest:
    """The newest backup."""
    store = record().store
    return load(store, listed(store)[-1])


def taken() -> Manifest:
    """The newest backup, taken now if there is none."""
    if not listed(record().store):
        succeeds(playbook())
    return latest()


def last(action: str) -> Event:
    """The last event of an action."""
    return [event for event in record().events() if event.action == action][-1]


def stored(name: str) -> list[Path]:
    """Files of a backup in the record's store."""
    return sorted((paths.stack_home(STACK) / "record" / "backups" / name).glob("part-*"))


def inside(*words: str, given: bytes = b"") -> str:
    """A command in the database's container of the primary, as its superuser."""
    nested = ["docker", "exec", "-i", local.PRIMARY.container, "docker", "exec", "-i", POSTGRES]
    done = subprocess.run([*nested, *words], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def ask(database: str, sql: str, *, counted: bool = False) -> str:
    """Answer of the database, or how many rows it has."""
    sql = f"SELECT count(*) FROM ({sql}) AS answer" if counted else sql  # noqa: S608 - the tests' own
    return inside("psql", "--no-psqlrc", "-qAtU", "postgres", "-d", database, "-c", sql)


@contextmanager
def restored(manifest: Manifest) -> Iterator[str]:
    """A database that was made of what the record's store holds; the test's own means throughout."""
    identity = open_store(read_outputs(STACK).secretstore, STACK, record=read_outputs(STACK).record).get(
        BACKUP_IDENTITY
    )
    data = b"".join(path.read_bytes() for path in stored(manifest.id))
    plain = pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(identity)])
    name = f"drill_{uuid.uuid4().hex[:8]}"
    ask("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        inside("pg_restore", "-U", "postgres", "-d", name, "--exit-on-error", given=plain)
        yield name
    finally:
        ask("postgres", f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def corrupted(path: Path) -> Iterator[None]:
    """One octet of a file is another one while the block runs."""
    right = path.read_bytes()
    wrong = bytearray(right)
    wrong[len(wrong) // 2] ^= 1
    path.write_bytes(wrong)
    try:
        yield
    finally:
        path.write_bytes(right)


def test_a_backup_can_be_restored_to_what_was_there() -> None:
    smoke = Smoke(find_target(read_outputs(STACK), STACK))
    order = {"customer_msisdn": CUSTOMER, "amount": 1}
    made = smoke.program.post(
        "/api/tools/create_voucher", json=order, headers={"Idempotency-Key": str(uuid.uuid4())}
    )
    number = made.json()["policy_number"]

    succeeds(playbook("-e", "why=drill"))
    manifest = latest()
    event = last("backup")
    assert event.details["id"] == manifest.id
    assert event.details["manifest_sha256"] == manifest.digest
    assert event.why == "drill"
    with restored(manifest) as name:
        assert ask(name, "SELECT version_num FROM alembic_version") == manifest.revision
        tables = ask(name, "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = 'public'")
        assert set(tables.splitlines()) == set(manifest.tables)
        for table, known in manifest.tables.items():
            assert int(ask(name, f"TABLE {table}", counted=True)) == known.rows, table
        voucher = f"SELECT to_jsonb(v) FROM vouchers v WHERE policy_number = '{number}'"  # noqa: S608 - ours
        assert number in ask(name, voucher)
        assert ask(name, voucher) == ask("agents", voucher)


def test_nothing_in_clear_and_no_key_reaches_the_host() -> None:
    primary, name = machine(local.PRIMARY), taken().id
    assert primary.shell(f"stat -c '%a %U' {HOME} {HOME}/{name} {HOME}/{name}/*").split("\n") == [
        "700 root",
        "700 root",
        "600 root",
        "600 root",
    ]
    assert primary.shell(f"head -c 21 {HOME}/{name}/{DATA}") == "age-encryption.org/v1"
    assert primary.run("grep", "-rlI", "AGE-SECRET-KEY", HOME, "/tmp", "/etc", "/root").output == ""
    assert "icupa_backup_check" not in ask("postgres", "SELECT string_agg(datname, ' ') FROM pg_database")


def test_a_changed_octet_is_found_wherever_it_is() -> None:
    name = taken().id
    succeeds(playbook("-e", f"verify={name}"))
    assert last("backup.verify").result is Result.OK

    with corrupted(stored(name)[0]):
        done = command(playbook("-e", f"verify={name}"))
        assert done.returncode == 2
        assert f"backups/{name}/part-00000 was changed" in " ".join(done.stdout.split())
    assert last("backup.verify").result is Result.FAILED

    primary = machine(local.PRIMARY)
    primary.shell(f"cp {HOME}/{name}/{DATA} /root/right; printf x >> {HOME}/{name}/{DATA}")
    try:
        done = command(playbook("-e", "verify=latest"))
        assert done.returncode == 2
        assert f"{HOME}/{name}/{DATA} on primary was changed" in " ".join(done.stdout.split())
    finally:
        primary.shell(f"mv /root/right {HOME}/{name}/{DATA}")

    manifest = paths.stack_home(STACK) / "record" / "backups" / name / "manifest.json"
    right = manifest.read_bytes()
    manifest.write_bytes(right.replace(b'"host":"primary"', b'"host":"standby"'))
    try:
        done = command(playbook("-e", f"verify={name}"))
        assert done.returncode == 2
        assert "its manifest is not the one that the log names" in " ".join(done.stdout.split())
    finally:
        manifest.write_bytes(right)
    succeeds(playbook("-e", f"verify={name}"))


def test_a_backup_that_is_killed_leaves_none_and_the_next_one_is_whole() -> None:
    steps = trace(playbook())
    for step in spread(steps, min(KILLS + 2, len(steps)))[1:-1]:
        kill_after(step, playbook())
        succeeds(playbook())
        succeeds(playbook("-e", "verify=latest"))
        assert record().state().lock is None
        left = machine(local.PRIMARY).shell(f"ls -A {HOME}").split()
        assert not [name for name in left if name.startswith(".new")]


def test_a_dry_run_takes_none() -> None:
    before, names = record().last_event(), listed(record().store)
    shown = " ".join(succeeds(playbook("--check")).split())
    assert "would do back up database agents of primary" in shown
    assert (record().last_event(), listed(record().store)) == (before, names)


def test_an_unknown_backup_is_refused_with_those_that_there_are() -> None:
    name = taken().id
    done = command(playbook("-e", "verify=20200101T000000Z-primary"))
    assert done.returncode == 2
    assert name in done.stdout
