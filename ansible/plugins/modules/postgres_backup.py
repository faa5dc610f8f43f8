#!/usr/bin/python
"""Takes a backup of a database in a container, encrypted, and proves it by a restore; see DOCUMENTATION."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: postgres_backup
short_description: Back up a PostgreSQL database that runs in a container
description:
  - C(pg_dump) in the custom format, from inside the container, streamed through C(age) to the disk, which no
    byte in clear reaches. Kept below C(directory)/C(id), which appears when it is complete and proven.
  - Proven by a restore of the stored file into a database of the same server, which is dropped afterwards.
    Rows and contents of every table are compared with those of the snapshot that was dumped. It is decrypted
    with a key that is made for this alone and kept in memory; the recipient's own is not needed on the host.
options:
  project: {description: Name of the Compose project., type: str, required: true}
  service: {description: Name of the service., type: str}
  database: {description: Name of the database., type: str, required: true}
  superuser: {description: Role that may read all and make databases., type: str}
  directory: {description: Where backups are kept., type: path, required: true}
  id: {description: Name of this one., type: str, required: true}
  recipient: {description: Recipient of age (C(age1…))., type: str, required: true}
  keep: {description: How many backups are kept; older ones are removed., type: int}
  part_size: {description: Octets of the parts that get a checksum each., type: int}
  timeout: {description: Seconds that all of it may last., type: int}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Back up
  postgres_backup:
    project: agents-service
    database: agents
    directory: /var/backups/icupa
    id: 20261120T020000Z-primary
    recipient: age1…
"""

RETURN = """
backup: {description: What was stored., type: dict, returned: always}
removed: {description: Older backups that were removed., type: list, returned: success}
"""

CHUNK = 1 << 20
LOCK_PATIENCE = 60.0
SPACE_FACTOR = 1.2
SCRATCH_PREFIX = "icupa_backup_check_"
DATA = "database.dump.age"
MANIFEST = "manifest.json"
NEW = ".new"
ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[a-z0-9][a-z0-9-]*")
REVISION_TABLE = "public.alembic_version"
REVISION = "SELECT version_num FROM public.alembic_version"
MARK = "-- end of answer --"

SETTINGS = """
SET statement_timeout = 0; SET lock_timeout = '60s'; SET idle_in_transaction_session_timeout = 0;
SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET extra_float_digits = 1; SET bytea_output = 'hex';
"""
# Sum of hashes: the order of rows, which nothing promises, makes no difference.
TABLES = r"""
SELECT format(
  'SELECT json_build_object(''name'', %L, ''rows'', count(*), ''content'', coalesce(sum((''x'' ||'
  ' left(md5(icupa_row::text), 15))::bit(60)::bigint), 0)::text) FROM ONLY %I.%I AS icupa_row',
  n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname \gexec
"""


class BackupError(Exception):
    """There is no backup; the message says why."""


@dataclass
class Processes:
    """Every process that was started, so that none outlives the time that it has."""

    timeout: float
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    expired: bool = False

    def start(self, command: list[str], **streams: Any) -> Process:
        """Start one; its messages are kept for an error."""
        messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        process = subprocess.Popen(command, stderr=messages, **streams)
        self.running.append(process)
        return Process(
            self, process, messages, " ".join(command[:1] + [w for w in command if "pg_" in w][:1])
        )

    @contextlib.contextmanager
    def limited(self) -> Iterator[Processes]:
        """End them all when the time is over, and whatever is left at the end."""
        timer = threading.Timer(self.timeout, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield self
        finally:
            timer.cancel()
            self._kill()

    def _expire(self) -> None:
        self.expired = True
        self._kill()

    def _kill(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


@dataclass
class Process:
    """One process with its messages."""

    all: Processes
    process: subprocess.Popen[bytes]
    messages: IO[bytes]
    name: str

    @property
    def stdin(self) -> IO[bytes]:
        """Its standard input."""
        if self.process.stdin is None:
            raise AssertionError(f"{self.name} has no standard input")
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Its standard output."""
        if self.process.stdout is None:
            raise AssertionError(f"{self.name} has no standard output")
        return self.process.stdout

    def check(self) -> None:
        """Wait for its end; raises BackupError unless it was a good one."""
        code = self.process.wait()
        if self.all.expired:
            raise BackupError(f"not done after {self.all.timeout:.0f} s")
        if code != 0:
            raise BackupError(f"{self.name} ended with {code}: {self.said()}")

    def said(self) -> str:
        """The line of its messages that names the error: others may quote rows."""
        self.messages.seek(0)
        lines = self.messages.read().decode(errors="replace").splitlines()
        errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
        return (errors or lines or ["it said nothing"])[0][:300]


class Session:
    """A session of psql inside the container: one transaction, one question after the other."""

    def __init__(self, processes: Processes, server: Server, database: str) -> None:
        command = server.command("psql", database, "--no-psqlrc", "--quiet", "--no-align", "--tuples-only")
        self._process = processes.start(
            [*command, "--set=ON_ERROR_STOP=1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, sql: str) -> list[str]:
        """Lines of the answer."""
        end = "" if sql.rstrip().endswith((";", "\\gexec")) else ";"
        try:
            self._process.stdin.write(f"{sql}{end}\n\\echo '{MARK}'\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        lines: list[str] = []
        while True:
            line = self._process.stdout.readline().decode()
            if not line:
                self._fail()
            if line.rstrip("\n") == MARK:
                return [found for found in lines if found]
            lines.append(line.rstrip("\n"))

    def close(self) -> None:
        """End it; raises BackupError where an error is only known now."""
        self._process.stdin.close()
        self._process.check()

    def _fail(self) -> None:
        self._process.process.wait()
        self._process.check()
        raise BackupError("psql ended before it answered")


@dataclass(frozen=True)
class Server:
    """The server in its container: who runs there is let in without a password."""

    container: str
    superuser: str

    def command(self, program: str, database: str, *arguments: str) -> list[str]:
        """A client program inside the container."""
        words = ["docker", "exec", "--interactive", self.container, program, f"--username={self.superuser}"]
        return [*words, f"--dbname={database}", "--no-password", *arguments]


def run(command: list[str], given: str | None = None) -> str:
    """Standard output of a short command; `given` is its standard input."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackupError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[:300]}")
    return done.stdout.strip()


def find_server(project: str, service: str, superuser: str) -> Server:
    """The container of the service; BackupError where it does not run."""
    label = "label=com.docker.compose"
    filters = [
        word
        for name, value in (("project", project), ("service", service))
        for word in ("--filter", f"{label}.{name}={value}")
    ]
    ids = run(["docker", "ps", "--quiet", *filters]).split()
    if len(ids) != 1:
        raise BackupError(f"{project}: {len(ids)} containers of {service} run, there must be one")
    return Server(ids[0], superuser)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, which ends with its process."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BackupError(f"another backup goes on in {directory}") from None
                time.sleep(0.5)
        yield
    finally:
        os.close(descriptor)


class Parts:
    """Checksums of what is written: of all, and of each part of a fixed size."""

    def __init__(self, size: int) -> None:
        self._part_size = size
        self._whole, self._part = hashlib.sha256(), hashlib.sha256()
        self._in_part = 0
        self.size = 0
        self.parts: list[dict[str, Any]] = []

    def add(self, data: bytes) -> None:
        """Go on with these octets."""
        self._whole.update(data)
        self.size += len(data)
        while data:
            room = self._part_size - self._in_part
            piece, data = data[:room], data[room:]
            self._part.update(piece)
            self._in_part += len(piece)
            if self._in_part == self._part_size:
                self._end_part()

    def finish(self) -> str:
        """Checksum of all."""
        if self._in_part:
            self._end_part()
        return self._whole.hexdigest()

    def _end_part(self) -> None:
        self.parts.append({"size": self._in_part, "sha256": self._part.hexdigest()})
        self._part, self._in_part = hashlib.sha256(), 0


def copy(source: IO[bytes], write: Callable[[bytes], Any], seen: Callable[[bytes], Any]) -> None:
    """Copy to the end, showing everything to `seen`."""
    while data := source.read(CHUNK):
        seen(data)
        write(data)


def new_key() -> tuple[str, str]:
    """Identity and recipient of age, made here and written nowhere."""
    identity = run(["age-keygen"])
    return identity, run(["age-keygen", "-y"], identity)


@dataclass
class Dump:
    """The database dumped into one encrypted file."""

    processes: Processes
    server: Server
    database: str
    file: Path
    recipients: list[str]
    part_size: int

    def write(self, snapshot: str) -> dict[str, Any]:
        """Dump, encrypt, store; sizes and checksums of both sides."""
        dump = self.processes.start(
            self.server.command("pg_dump", self.database, "--format=custom", f"--snapshot={snapshot}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        options = [word for recipient in self.recipients for word in ("-r", recipient)]
        age = self.processes.start(["age", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        plain, stored = Parts(CHUNK), Parts(self.part_size)
        feeding = threading.Thread(target=self._feed, args=(dump, age, plain), daemon=True)
        feeding.start()
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            copy(age.stdout, file.write, stored.add)
            file.flush()
            os.fsync(descriptor)
        feeding.join()
        dump.check()
        age.check()
        return {
            "sha256": stored.finish(),
            "size": stored.size,
            "parts": stored.parts,
            "plain_sha256": plain.finish(),
            "plain_size": plain.size,
        }

    @staticmethod
    def _feed(dump: Process, age: Process, plain: Parts) -> None:
        # Where the other side ended early, its own exit code says so.
        with contextlib.suppress(BrokenPipeError):
            copy(dump.stdout, age.stdin.write, plain.add)
        with contextlib.suppress(BrokenPipeError):
            age.stdin.close()

    def restore(self, scratch: str, identity: str) -> None:
        """Restore the stored file into another database."""
        opened = self.processes.start(
            ["age", "-d", "-i", "-", str(self.file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        restoring = self.processes.start(
            self.server.command("pg_restore", scratch, "--exit-on-error"),
            stdin=opened.stdout,
            stdout=subprocess.DEVNULL,
        )
        opened.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            opened.stdin.write(identity.encode())
            opened.stdin.close()
        opened.check()
        restoring.check()


def tables(session: Session) -> dict[str, dict[str, Any]]:
    """Rows and content of every table, by its name."""
    found = [json.loads(line) for line in session.ask(TABLES)]
    return {table["name"]: {"rows": table["rows"], "content": table["content"]} for table in found}


def differences(dumped: dict[str, Any], restored: dict[str, Any]) -> list[str]:
    """What is not the same, in words."""
    said = [f"{name} is missing" for name in dumped.keys() - restored.keys()]
    said += [f"{name} is new" for name in restored.keys() - dumped.keys()]
    for name in dumped.keys() & restored.keys():
        before, after = dumped[name], restored[name]
        if before["rows"] != after["rows"]:
            said.append(f"{name} has {after['rows']} rows instead of {before['rows']}")
        elif before["content"] != after["content"]:
            said.append(f"{name} has other contents")
    return sorted(said)


def refuse_without_space(server: Server, session: Session, directory: Path) -> int:
    """Size of the database; BackupError where backup or proof would not fit."""
    size = int(session.ask("SELECT pg_database_size(current_database())")[0])
    needed = int(size * SPACE_FACTOR)
    inside = ["docker", "exec", server.container, "bash", "-c", 'df --output=avail -B1 "$PGDATA"']
    rooms = {
        str(directory): shutil.disk_usage(directory).free,
        "the database's own volume": int(run(inside).splitlines()[-1]),
    }
    for place, free in rooms.items():
        if free < needed:
            raise BackupError(
                f"{place} has {free >> 20} MiB free, a backup and its proof need {needed >> 20}"
            )
    return size


def drop_scratch(session: Session) -> None:
    """Drop what proofs made, this one's and those that were killed."""
    session.ask(
        "SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database"  # noqa: S608 - a constant
        f" WHERE starts_with(datname, '{SCRATCH_PREFIX}') \\gexec"
    )


def prove(
    processes: Processes, dump: Dump, scratch: str, identity: str, expected: dict[str, Any]
) -> dict[str, Any]:
    """Restore into a database of its own and compare; raises BackupError where anything differs."""
    began = time.monotonic()
    administration = Session(processes, dump.server, "postgres")
    drop_scratch(administration)
    administration.ask(f"CREATE DATABASE {scratch} TEMPLATE template0")
    administration.ask(f"REVOKE ALL ON DATABASE {scratch} FROM PUBLIC")
    try:
        dump.restore(scratch, identity)
        session = Session(processes, dump.server, scratch)
        session.ask(SETTINGS)
        found = tables(session)
        session.close()
    finally:
        if not processes.expired:
            drop_scratch(administration)
            administration.close()
    if wrong := differences(expected, found):
        raise BackupError(f"what was restored is not what was dumped: {'; '.join(wrong[:10])}")
    return {"tables": len(found), "seconds": round(time.monotonic() - began, 2)}


def take(parameters: dict[str, Any]) -> dict[str, Any]:
    """Take and prove one; returns its manifest."""
    directory = Path(parameters["directory"])
    server = find_server(parameters["project"], parameters["service"], parameters["superuser"])
    with alone(directory), Processes(parameters["timeout"]).limited() as processes:
        final, new = directory / parameters["id"], directory / f"{NEW}-{parameters['id']}"
        if final.exists():
            raise BackupError(f"{final} exists already")
        for leftover in directory.glob(f"{NEW}-*"):
            shutil.rmtree(leftover)
        new.mkdir(mode=0o700)
        try:
            manifest = _take(parameters, server, processes, new)
            sync(new)
            new.rename(final)
            sync(directory)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return manifest


def _take(parameters: dict[str, Any], server: Server, processes: Processes, new: Path) -> dict[str, Any]:
    began, taken_at = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    session = Session(processes, server, parameters["database"])
    session.ask(SETTINGS)
    database_size = refuse_without_space(server, session, new)
    session.ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    (snapshot,) = session.ask("SELECT pg_export_snapshot()")
    identity, recipient = new_key()
    dump = Dump(
        processes,
        server,
        parameters["database"],
        new / DATA,
        [parameters["recipient"], recipient],
        parameters["part_size"],
    )
    stored = dump.write(snapshot)
    dumped = tables(session)
    revision = session.ask(REVISION) if REVISION_TABLE in dumped else []
    (version,) = session.ask("SHOW server_version")
    session.ask("COMMIT")
    session.close()
    if not dumped:
        raise BackupError(f"database {parameters['database']} has no tables: there is nothing to back up")
    scratch = SCRATCH_PREFIX + re.sub(r"[^a-z0-9]", "_", parameters["id"].lower())
    proof = prove(processes, dump, scratch, identity, dumped)
    manifest = {
        "schema": 1,
        "id": parameters["id"],
        "taken_at": taken_at,
        "seconds": round(time.monotonic() - began, 2),
        "database": parameters["database"],
        "database_size": database_size,
        "server_version": version,
        "revision": revision[0] if revision else None,
        "format": "pg_dump custom, age",
        "recipient": parameters["recipient"],
        "tools": {
            "pg_dump": run(["docker", "exec", server.container, "pg_dump", "--version"]),
            "age": run(["age", "--version"]),
        },
        "tables": dumped,
        "proof": proof,
        **stored,
    }
    descriptor = os.open(new / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(descriptor)
    return manifest


def sync(directory: Path) -> None:
    """Have names in a directory survive a crash."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prune(directory: Path, keep: int) -> list[str]:
    """Remove all but the newest; returns those removed."""
    found = sorted(entry.name for entry in directory.iterdir() if ID.fullmatch(entry.name))
    old = found[: max(0, len(found) - keep)]
    for name in old:
        shutil.rmtree(directory / name)
    return old


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "service": {"type": "str", "default": "postgres"},
            "database": {"type": "str", "required": True},
            "superuser": {"type": "str", "default": "postgres"},
            "directory": {"type": "path", "required": True},
            "id": {"type": "str", "required": True},
            "recipient": {"type": "str", "required": True},
            "keep": {"type": "int", "default": 7},
            "part_size": {"type": "int", "default": 4 << 20},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    given = module.params
    if not ID.fullmatch(given["id"]):
        module.fail_json(msg=f"{given['id']} is not the name of a backup: {ID.pattern}")
    if given["keep"] < 1:
        module.fail_json(msg=f"keep must be at least 1, got {given['keep']}")
    missing = [name for name in ("docker", "age", "age-keygen") if shutil.which(name) is None]
    if missing:
        module.fail_json(msg=f"not installed here: {', '.join(missing)} (the site play installs them)")
    if module.check_mode:
        module.exit_json(changed=True, backup={"id": given["id"], "database": given["database"]})
    try:
        manifest = take(given)
        removed = prune(Path(given["directory"]), given["keep"])
    except (BackupError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, backup=manifest, removed=removed)


if __name__ == "__main__":
    main()
