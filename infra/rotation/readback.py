"""`python -m infra.rotation.readback`: what a process that was just started reads from the store of secrets.

What it needs comes on standard input as JSON (`Question`); proofs of values, never values, go to standard
output. A value that only the asking process knew would not be found by it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra import paths
from infra.record import RecordError
from infra.secretstore import SecretStoreError, open_store

_TIMEOUT = 60.0


class Question(BaseModel):
    """Which secrets of which store; `nonce` makes proofs that are good for this question only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secretstore: dict[str, Any]
    record: dict[str, Any]
    stack: str
    names: tuple[str, ...]
    nonce: str


class Proofs(BaseModel):
    """A proof of each secret's value in use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proofs: dict[str, str]


def proof(nonce: str, value: str) -> str:
    """Tells somebody who has the value that it is this one, and nobody else anything."""
    return hmac.new(nonce.encode(), value.encode(), hashlib.sha256).hexdigest()


def differing(
    values: Mapping[str, str], secretstore: Mapping[str, Any], stack: str, record: Mapping[str, Any]
) -> list[str]:
    """Names of secrets of which a fresh process reads another value than the one given.

    Raises:
        SecretStoreError: it can't read them.
    """
    question = Question(
        secretstore=dict(secretstore),
        record=dict(record),
        stack=stack,
        names=tuple(values),
        nonce=secrets.token_hex(32),
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            cwd=paths.REPOSITORY,
            input=question.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SecretStoreError(f"a fresh process read nothing back within {_TIMEOUT:.0f} s") from None
    if done.returncode:
        raise SecretStoreError(f"a fresh process can't read it back: {done.stderr.strip()}")
    proofs = Proofs.model_validate_json(done.stdout).proofs
    return [
        name
        for name, value in values.items()
        if not hmac.compare_digest(proofs.get(name, ""), proof(question.nonce, value))
    ]


def main() -> int:
    """Answer; 1 with the reason on standard error."""
    question = Question.model_validate_json(sys.stdin.read())
    try:
        store = open_store(question.secretstore, question.stack, record=question.record)
        values = store.get_many(question.names)
    except (SecretStoreError, RecordError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = {name: proof(question.nonce, value) for name, value in values.items()}
    sys.stdout.write(Proofs(proofs=found).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
