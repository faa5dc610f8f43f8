"""Reads the outputs of a stack, from Pulumi or from a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.outputs.model import StackError, StackOutputs
from infra.paths import REPOSITORY

FILE_ENV = "ICUPA_OUTPUTS_FILE"
_TIMEOUT = 120.0


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
