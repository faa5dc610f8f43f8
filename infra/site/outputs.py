"""Outputs of a stack, as inventory and procedures read them (docs/architecture.md, "Stack outputs")."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.paths import REPOSITORY

STACK_ENV = "ICUPA_STACK"
FILE_ENV = "ICUPA_OUTPUTS_FILE"
_TIMEOUT = 120.0


class StackError(Exception):
    """The stack can't be read, or its outputs aren't those of this program; the message says what to do."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class HostOutput(_Model):
    """One host; `host_key` is "type base64", `private_key_file` a path on the controller."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    region: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    role: Literal["primary", "standby"]
    address: str
    user: str
    port: int = 22
    host_key: str
    private_key_file: str | None = None
    become: bool = True


class ReleaseOutput(_Model):
    """The image that the program built: the first release."""

    image: str
    digest: str
    git_sha: str


class StackOutputs(_Model):
    """All outputs that the inventory hands on; holds references to secrets, never values."""

    environment: str
    domain: str
    hosts: list[HostOutput]
    record: dict[str, Any]
    secretstore: dict[str, Any]
    release: ReleaseOutput
    projects: dict[str, dict[str, Any]] = Field(default_factory=dict)
    settings: dict[str, Any]
    urls: dict[str, Any] = Field(default_factory=dict)

    def project(self, host: str) -> dict[str, Any]:
        """Rendered project of one host; StackError where the program made none."""
        if host not in self.projects:
            raise StackError(f"stack {self.environment}: outputs hold no rendered project of host {host!r}")
        return self.projects[host]


def parse_outputs(stack: str, raw: dict[str, Any]) -> StackOutputs:
    """Validated outputs; StackError that lists every missing or malformed one."""
    if not raw:
        raise StackError(
            f"stack {stack} has no outputs yet: run `pulumi up -s {stack}` (for local: `make up`)"
        )
    try:
        outputs = StackOutputs.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise StackError(
            f"stack {stack}: outputs aren't those of this program ({wrong}): run `pulumi up -s {stack}`"
        ) from error
    if not outputs.hosts:
        raise StackError(f"stack {stack} has no hosts in its outputs: nothing for Ansible to do")
    return outputs


def _pulumi(stack: str) -> dict[str, Any]:
    executable = shutil.which("pulumi")
    if executable is None:
        raise StackError("pulumi is not on PATH: run `make tools`, or put its directory on PATH")
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    done = subprocess.run(
        [executable, "stack", "output", "--json", "--non-interactive", "-s", stack],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.strip().removeprefix("error: ")
        if "no stack named" in reason:
            raise StackError(f"no stack named {stack!r}: run `pulumi up -s {stack}` (for local: `make up`)")
        raise StackError(f"`pulumi stack output -s {stack}` failed: {reason}")
    return dict(json.loads(done.stdout))


def read_outputs(stack: str, file: Path | None = None) -> StackOutputs:
    """Outputs of `stack` from the Pulumi backend, or from a JSON `file` instead; raises StackError."""
    if file is None:
        return parse_outputs(stack, _pulumi(stack))
    try:
        raw = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise StackError(f"outputs of stack {stack} can't be read from {file}: {error}") from error
    return parse_outputs(stack, raw)
