"""Whether an image bears our signature (IMG-4): cosign asks the registry, and nobody else."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.release.model import ReleaseError
from infra.release.registry import Login, UnreachableError
from infra.secrets.catalogue import SIGNING_PUBLIC_KEY
from infra.secretstore.store import PUBLIC

_TIMEOUT = 120
_MEMORY = Path("/dev/shm")  # noqa: S108 - memory, which no disk keeps; inside, a directory of our own
_OTHERS = ("failed to verify signature", "invalid signature", "no matching signatures")
_UNSIGNED = ("no signatures found", "no matching attestations")
_SILENT = (
    "connection refused",
    "no route to host",
    "i/o timeout",
    "no such host",
    "network is unreachable",
    "connection reset",
    "deadline exceeded",
    "503 service unavailable",
    "502 bad gateway",
)


class UnsignedError(ReleaseError):
    """The image has no signature, or none of ours."""


@dataclass(frozen=True)
class Verifier:
    """Verifies by a public key, PEM.

    `address` is where the registry is reached where its name does not resolve here; its certificate must then
    name the address too. `trust` holds certificates in PEM.
    """

    public_key: str
    login: Login
    trust: Sequence[str] = ()
    address: str | None = None

    def verify(self, image: str, digest: str) -> None:
        """Check that `image@digest` is signed.

        Raises:
            UnsignedError: it is not, or by somebody else's key.
            UnreachableError: the registry does not answer.
            ReleaseError: cosign is missing, or fails otherwise.
        """
        if shutil.which("cosign") is None:
            raise ReleaseError("cosign is not on PATH; `python -m infra.toolchain ensure` puts it there")
        host, _, path = image.partition("/")
        at = self.address or host
        room = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="icupa-verify-", dir=room) as directory:
            work = Path(directory)
            self._prepare(work, at)
            command = ["cosign", "verify", "--key", "image.pub", "--insecure-ignore-tlog", "--output", "json"]
            try:
                done = subprocess.run(
                    [*command, f"{at}/{path}@{digest}"],
                    cwd=work,
                    env=self._environment(work),
                    capture_output=True,
                    text=True,
                    timeout=_TIMEOUT,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise UnreachableError(
                    f"the signature of {image}@{digest}: {host} did not answer cosign for {_TIMEOUT} s"
                ) from None
        if done.returncode:
            raise _refusal(image, digest, done.stderr)
        if not _names(done.stdout, digest):
            raise UnsignedError(f"{image}@{digest}: its signature is of another image")

    def _prepare(self, work: Path, at: str) -> None:
        (work / "image.pub").write_text(self.public_key)
        (work / "docker").mkdir(mode=0o700)
        auth = base64.b64encode(f"{self.login.username}:{self.login.password}".encode()).decode()
        configuration = {"auths": {at: {"auth": auth}}}
        (work / "docker" / "config.json").write_text(json.dumps(configuration))
        if self.trust:
            (work / "trust.pem").write_text("\n".join(self.trust))

    def _environment(self, work: Path) -> dict[str, str]:
        environment = {**os.environ, "DOCKER_CONFIG": str(work / "docker"), "HOME": str(work)}
        if self.trust:
            environment["SSL_CERT_FILE"] = str(work / "trust.pem")
        return environment


def _refusal(image: str, digest: str, said: str) -> ReleaseError:
    text = said.lower()
    reference = f"{image}@{digest}"
    if any(word in text for word in _SILENT):
        return UnreachableError(f"the signature of {reference}: the registry does not answer cosign")
    if any(word in text for word in _OTHERS):
        return UnsignedError(
            f"{reference} is signed, but not with this environment's key"
            f" ({PUBLIC}/{SIGNING_PUBLIC_KEY} in the record's store)"
        )
    if any(word in text for word in _UNSIGNED):
        return UnsignedError(f"{reference} is not signed: what runs was built and signed by the program")
    last = said.strip().splitlines()[-1:] or ["no message"]
    return ReleaseError(f"the signature of {reference} can't be verified: cosign says: {last[0][:500]}")


def _names(output: str, digest: str) -> bool:
    try:
        signatures = json.loads(output)
        found = {
            item["critical"]["image"]["docker-manifest-digest"] for item in signatures if "critical" in item
        }
    except (ValueError, KeyError, TypeError):
        return False
    return digest in found
