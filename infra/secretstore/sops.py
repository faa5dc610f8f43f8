"""Encryption by the `sops` command with age; plain text passes through pipes only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]

from infra import paths
from infra.secretstore.errors import IdentityError, TamperedError, ToolError

_TIMEOUT = 60.0
_MAC_MISMATCH = 51
_NO_DATA_KEY = 128
# SOPS needs a name to find creation rules by; ours has none, everything is said by options.
_NAME = "secrets.sops.yaml"
_NO_HOME = "/nonexistent"
_TAMPERED = (b"message authentication failed", b"MAC mismatch", b"sops metadata not found")


@dataclass(frozen=True)
class Identity:
    """Where the age identity comes from: a file, or the environment variable SOPS_AGE_KEY."""

    source: str
    path: Path | None

    def text(self) -> str:
        """The identity itself.

        Raises:
            IdentityError: if the file can't be read.
        """
        if self.path is None:
            return os.environ["SOPS_AGE_KEY"]
        try:
            return self.path.read_text()
        except OSError as error:
            raise IdentityError(f"age identity {self.source}: {error.strerror}") from error

    def recipient(self) -> str:
        """Public key of the first identity in it; raises IdentityError."""
        return self.recipients()[0]

    def recipients(self) -> tuple[str, ...]:
        """Public keys of all identities in it, one or more.

        Raises:
            IdentityError: if one is not usable, or there is none.
        """
        lines = [line.strip() for line in self.text().splitlines() if line.startswith("AGE-SECRET-KEY-")]
        if not lines:
            raise IdentityError(f"age identity {self.source}: holds no AGE-SECRET-KEY-… line")
        try:
            return tuple(str(pyrage.x25519.Identity.from_str(line).to_public()) for line in lines)
        except pyrage.IdentityError as error:
            raise IdentityError(f"age identity {self.source}: not a valid X25519 identity") from error


def local_identity(stack: str) -> Path:
    """File with the age identity of a local stack."""
    return paths.stack_home(stack) / "age.key"


def identity_sources(stack: str) -> list[tuple[str, Identity | None]]:
    """Every place an identity is looked for, the first that has one wins."""
    default = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sops" / "age" / "keys.txt"
    named = os.environ.get("SOPS_AGE_KEY_FILE")
    key = Identity("SOPS_AGE_KEY", None) if os.environ.get("SOPS_AGE_KEY") else None
    file = Identity(f"SOPS_AGE_KEY_FILE={named}", Path(named)) if named else None
    sources: list[tuple[str, Identity | None]] = [
        ("environment variable SOPS_AGE_KEY", key),
        ("environment variable SOPS_AGE_KEY_FILE", file),
        _file_source(default),
    ]
    # A local stack has an identity of its own, whatever the operator uses elsewhere.
    return [_file_source(local_identity(stack)), *sources] if paths.is_local(stack) else sources


def _file_source(path: Path) -> tuple[str, Identity | None]:
    return f"file {path}", Identity(str(path), path) if path.exists() else None


def find_identity(stack: str) -> Identity:
    """The identity that is used.

    Raises:
        IdentityError: if there is none; the message lists where it was looked for.
    """
    sources = identity_sources(stack)
    for _, identity in sources:
        if identity is not None:
            return identity
    looked = "; ".join(place for place, _ in sources)
    raise IdentityError(
        f"no age identity for stack {stack}, looked in: {looked}."
        " Set SOPS_AGE_KEY_FILE to the file with your identity"
    )


def new_identity() -> tuple[str, str]:
    """A new identity: text of its file, and its recipient."""
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    return f"# public key: {recipient}\n{identity}\n", recipient


def encrypt(document: Mapping[str, Any], recipients: Sequence[str]) -> bytes:
    """YAML of a document with every `value` encrypted for the recipients, the rest in clear and signed."""
    return _run(
        [
            *("encrypt", "--age", ",".join(recipients), "--encrypted-regex", "^value$"),
            *("--input-type", "json", "--output-type", "yaml", "--filename-override", _NAME),
        ],
        json.dumps(document).encode(),
        None,
    )


def decrypt(data: bytes, identity: Identity) -> dict[str, Any]:
    """The document in clear.

    Raises:
        IdentityError: the identity is none of the recipients.
        TamperedError: the file's authentication code does not fit.
        ToolError: SOPS is missing or fails otherwise.
    """
    plain = _run(
        ["decrypt", "--input-type", "yaml", "--output-type", "json", "--filename-override", _NAME],
        data,
        identity,
    )
    document: dict[str, Any] = json.loads(plain)
    return document


def _run(arguments: Sequence[str], data: bytes, identity: Identity | None) -> bytes:
    binary = shutil.which("sops")
    if binary is None:
        raise ToolError("sops is not on PATH; python -m infra.toolchain ensure provides it")
    # Nothing of the caller's environment: SOPS takes recipients, key services and key commands from it.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": _NO_HOME}
    if identity is not None and identity.path is not None:
        environment["SOPS_AGE_KEY_FILE"] = str(identity.path)
    elif identity is not None:
        environment["SOPS_AGE_KEY"] = identity.text()
    try:
        done = subprocess.run(
            [binary, *arguments],
            input=data,
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{binary} {arguments[0]} failed: {type(error).__name__}") from error
    if done.returncode == 0:
        return done.stdout
    if done.returncode == _MAC_MISMATCH or any(mark in done.stderr for mark in _TAMPERED):
        raise TamperedError(
            "the file was changed by something else than SOPS: its authentication code is wrong"
        )
    if done.returncode == _NO_DATA_KEY and identity is not None:
        raise IdentityError(f"age identity {identity.source} is none of the file's recipients")
    reason = done.stderr.decode(errors="replace").strip().splitlines()
    raise ToolError(
        f"sops {arguments[0]} exited with {done.returncode}: {reason[0] if reason else 'no message'}"
    )
