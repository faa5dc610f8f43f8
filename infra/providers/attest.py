"""Sign an image and attach what is known of it (IMG-4): an SBOM by syft, SLSA provenance, both by cosign.

Nothing but the registry is asked: no transparency log, no time-stamp authority, no list of trusted roots.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.providers.server import ProviderError

SBOM = "spdxjson"
PROVENANCE = "slsaprovenance1"
"""Types of the two attestations, as `cosign verify-attestation --type` names them."""

BUILD_TYPE = "https://mobyproject.org/buildkit@v1"

_TIMEOUT = 600
_MEMORY = Path("/dev/shm")  # noqa: S108 - memory, which no disk keeps; inside, a directory of our own
_NO_SERVICES = {
    "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
    "rekorTlogConfig": {"selector": "ANY"},
    "tsaConfig": {"selector": "ANY"},
}
_NO_ROOTS = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}


@dataclass(frozen=True)
class SigningKey:
    """Private key in PEM (PKCS#8, P-256), and the password that protects it while cosign uses it."""

    pem: str
    password: str


@dataclass(frozen=True)
class Origin:
    """Where an image comes from; `source_digest` is over the files that it was built from."""

    source: str
    git_sha: str
    source_digest: str
    base: str
    builder: str


@dataclass(frozen=True)
class Registry:
    """How the registry of an image is reached.

    At `address` where its name does not resolve here; with `trust`, certificates in PEM, in place of the
    public authorities where given.
    """

    address: str | None = None
    trust: Sequence[str] = ()


def provenance(origin: Origin) -> dict[str, Any]:
    """Return the SLSA v1 provenance predicate."""
    commit = {"gitCommit": origin.git_sha}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "source": {"uri": origin.source, "digest": commit},
                "arguments": {"BASE": origin.base},
            },
            "internalParameters": {"contextHash": origin.source_digest},
            "resolvedDependencies": [
                {"uri": origin.source, "digest": commit},
                {"uri": f"pkg:docker/{origin.base.replace(':', '@')}"},
            ],
        },
        "runDetails": {"builder": {"id": f"urn:icupa:buildkit:{origin.builder}"}},
    }


def attest(reference: str, origin: Origin, registry: Registry, key: SigningKey) -> str:
    """Sign `reference` (`host/repository@sha256:…`) and attach SBOM and provenance; return the public key.

    What is attached already stays: a second call adds, and does no harm.

    Raises:
        ProviderError: if a tool is missing or refuses.
    """
    room = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="icupa-attest-", dir=room) as directory:
        work = Path(directory)
        target = _at(reference, registry.address)
        environment = _environment(work, reference, target, registry, key)
        (work / "services.json").write_text(json.dumps(_NO_SERVICES))
        (work / "roots.json").write_text(json.dumps(_NO_ROOTS))
        _run(
            ["cosign", "import-key-pair", "--key", "/dev/stdin", "--output-key-prefix", "image"],
            work,
            environment,
            key.pem,
        )
        name, _, digest = reference.partition("@")
        known_as = ["--source-name", name, "--source-version", digest]
        scan = ["syft", "scan", f"registry:{target}", *known_as, "-o", "spdx-json=sbom.json", "-q"]
        _run(scan, work, environment)
        (work / "provenance.json").write_text(json.dumps(provenance(origin)))
        offline = ["--signing-config", "services.json", "--trusted-root", "roots.json", "--yes"]
        signing = ["--key", "image.key", *offline, target]
        _run(["cosign", "sign", *signing], work, environment)
        for kind, predicate in ((SBOM, "sbom.json"), (PROVENANCE, "provenance.json")):
            _run(["cosign", "attest", "--type", kind, "--predicate", predicate, *signing], work, environment)
        return (work / "image.pub").read_text()


def _at(reference: str, address: str | None) -> str:
    host, _, path = reference.partition("/")
    return f"{address or host}/{path}"


def _environment(
    work: Path, reference: str, target: str, registry: Registry, key: SigningKey
) -> dict[str, str]:
    """Return the tools' environment: password, certificates, and the login also under the address."""
    environment = {**os.environ, "COSIGN_PASSWORD": key.password, "SYFT_CHECK_FOR_APP_UPDATE": "false"}
    if registry.trust:
        bundle = work / "trust.pem"
        bundle.write_text("\n".join(registry.trust))
        environment["SSL_CERT_FILE"] = str(bundle)
    host, at = reference.partition("/")[0], target.partition("/")[0]
    if at != host:
        (work / "docker").mkdir(mode=0o700)
        configuration = {"auths": _login(host, at)}
        (work / "docker" / "config.json").write_text(json.dumps(configuration))
        environment["DOCKER_CONFIG"] = str(work / "docker")
    return environment


def _login(host: str, address: str) -> Mapping[str, Any]:
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    with suppress(FileNotFoundError):
        logins = json.loads(file.read_text()).get("auths", {})
        if host in logins:
            return {address: logins[host]}
    return {}


def _run(command: list[str], work: Path, environment: Mapping[str, str], text: str | None = None) -> None:
    path = environment.get("PATH")
    if shutil.which(command[0], path=path) is None:
        raise ProviderError(f"{command[0]} is not on PATH; `python -m infra.toolchain ensure` puts it there")
    done = subprocess.run(
        command,
        cwd=work,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        reason = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ProviderError(f"{' '.join(command[:2])} ended with {done.returncode}: {reason}")
