"""A controller of its own for tests: a home, outputs in a file, a record, and this tree's plugins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.config.load import load_file
from infra.outputs.export import settings
from infra.outputs.read import parse_outputs
from infra.paths import REPOSITORY
from infra.record import Record, open_record
from infra.site.bootstrap import bootstrap_record

STACK = "test"
HEARTBEAT = "infra.procedures.heartbeat"
_FOREIGN = ("ANSIBLE_", "ICUPA_", "SOPS_", "XDG_", "AWS_")
_TIMEOUT = 120.0


def outputs(record: Mapping[str, Any], address: str = "127.0.0.1") -> dict[str, Any]:
    """Outputs of a stack with one host, which is never spoken to unless a playbook does."""
    host = {
        "name": "primary",
        "region": "primary",
        "role": "primary",
        "address": address,
        "user": "ops",
        "port": 1,
        "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKh6bLx6 root@machine",
    }
    return {
        "environment": STACK,
        "domain": "agents.local.icupa.dev",
        "hosts": [host],
        "record": dict(record),
        "secretstore": {"driver": "sops"},
        "release": {
            "image": "registry.local.icupa.dev/icupa/agents-service",
            "digest": f"sha256:{'1' * 64}",
            "git_sha": "abc1234",
        },
        "projects": {host["name"]: {}},
        "settings": settings(load_file("local"), []),
        "urls": {},
    }


class Controller:
    """Runs playbooks as an operator does, against a record that is bootstrapped."""

    def __init__(
        self, home: Path, raw: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        file = home / "outputs.json"
        file.write_text(json.dumps(raw))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"),
            "ICUPA_OUTPUTS_FILE": str(file),
            "ICUPA_OPERATOR": "ada",
            **(environment or {}),
        }
        self.config = dict(raw["record"])
        self.outputs = parse_outputs(STACK, dict(raw))

    @property
    def record(self) -> Record:
        """The record, opened anew."""
        return open_record(self.config)

    def bootstrap(self) -> None:
        """Write the record's first state."""
        bootstrap_record(self.record, self.outputs, check=False)

    def command(self, playbook: Path, *options: str) -> list[str]:
        """The native command."""
        return ["ansible-playbook", str(playbook), "-e", f"stack={STACK}", *options]

    def play(
        self, playbook: Path, *options: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook to its end; the exit code is the caller's to judge."""
        return subprocess.run(
            self.command(playbook, *options),
            cwd=self.home,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )

    @contextmanager
    def playing(
        self, playbook: Path, *options: str, environment: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a playbook in a process group of its own; it is gone afterwards."""
        process = subprocess.Popen(
            self.command(playbook, *options),
            cwd=self.home,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(process)
            if process.stdout:
                process.stdout.close()

    def heartbeats(self) -> list[int]:
        """Process ids of the heartbeats of this controller's operations."""
        return [
            pid
            for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
            if HEARTBEAT in words(pid, "cmdline") and f"HOME={self.home}" in words(pid, "environ")
        ]


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the whole process group, as a lost terminal or a full memory does it."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def words(pid: int, file: str) -> list[str]:
    """What `/proc` holds of a process's `cmdline` or `environ`; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace").split("\0")
    except OSError:
        return []
