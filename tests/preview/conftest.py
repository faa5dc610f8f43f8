"""Runs the Pulumi command with a backend of the test's own: no account, no passphrase."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import paths
from infra.toolchain import environment

_TIMEOUT = 180
_ACCOUNTS = ("TOKEN", "SECRET", "PASSWORD", "AWS_", "SOPS_AGE", "PASSPHRASE")

Change = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Preview:
    """What `pulumi preview --json` said."""

    document: dict[str, Any]

    @property
    def changes(self) -> dict[str, int]:
        """Number of resources by operation, without those that stay the same."""
        summary: dict[str, int] = self.document["changeSummary"]
        return {operation: count for operation, count in summary.items() if operation != "same"}

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Operations on resources, without those that stay the same."""
        return [step for step in self.document["steps"] if step["op"] != "same"]

    def inputs(self, token: str) -> dict[str, dict[str, Any]]:
        """Inputs of all resources of a type, by resource name."""
        return {
            step["urn"].rsplit("::", 1)[1]: step["newState"]["inputs"]
            for step in self.document["steps"]
            if step["newState"]["type"] == token
        }

    @property
    def warnings(self) -> list[str]:
        """Warnings, in order."""
        return [
            item["message"] for item in self.document.get("diagnostics", []) if item["severity"] == "warning"
        ]


class Pulumi:
    """The command on one project, with stacks in a backend of its own and copies of their files."""

    def __init__(self, project: Path, home: Path) -> None:
        self._project = project
        self._home = home
        self._initialised: set[str] = set()
        inherited = {
            name: value for name, value in os.environ.items() if not any(part in name for part in _ACCOUNTS)
        }
        (home / "backend").mkdir(parents=True)
        self._environment = {
            **inherited,
            **environment.variables(inherited),
            "HOME": str(home),
            "PULUMI_BACKEND_URL": f"file://{home}/backend",
        }

    def file(self, stack: str, change: Change | None = None) -> Path:
        """Copy of a stack's file, changed."""
        source = paths.REPOSITORY / "stacks" / f"Pulumi.{stack}.yaml"
        target = self._home / f"Pulumi.{stack}.yaml"
        shutil.copyfile(source, target)
        if change:
            document = yaml.safe_load(target.read_text())
            change(document["config"])
            target.write_text(yaml.safe_dump(document, sort_keys=False))
        return target

    def run(
        self, stack: str, *arguments: str, change: Change | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command on a stack, made where it is missing; the result is the caller's to judge."""
        file = self.file(stack, change)
        if stack not in self._initialised:
            made = self._command("stack", "init", stack, "--no-select")
            assert made.returncode == 0, made.stderr
            self._initialised.add(stack)
        return self._command(*arguments, "--stack", stack, "--config-file", str(file))

    def preview(self, stack: str, change: Change | None = None) -> Preview:
        """Preview that must succeed."""
        done = self.run(stack, "preview", "--json", change=change)
        assert done.returncode == 0, done.stdout + done.stderr
        return Preview(json.loads(done.stdout))

    def outputs(self, stack: str) -> dict[str, Any]:
        """Outputs of a stack that is up."""
        done = self._command("stack", "output", "--json", "--stack", stack)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self._project,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )


@pytest.fixture(scope="session")
def pulumi(tmp_path_factory: pytest.TempPathFactory) -> Pulumi:
    """The program itself."""
    return Pulumi(paths.REPOSITORY, tmp_path_factory.mktemp("program"))


@pytest.fixture
def runtime_only(tmp_path: Path) -> Pulumi:
    """The VM runtime of a stack by itself, which can be brought up; a copy, since Pulumi writes beside it."""
    project = tmp_path / "project"
    shutil.copytree(Path(__file__).parent / "runtime_only", project)
    return Pulumi(project, tmp_path / "home")
