"""The base image, made from Debian's packages where no public image can be pulled.

It is an OCI layout that stands in for the public one as a named context of a build. Its packages come
from the mirror of this machine's own apt sources, which is read when it runs and written down in no file of
the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from infra import paths
from infra.toolchain import debian
from infra.toolchain.commands import log_file, logged
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import exclusive
from infra.toolchain.progress import Progress

SUITE = "trixie"
PUBLIC = f"debian:{SUITE}-slim"
PACKAGES = ("ca-certificates",)
COMMANDS = ("mmdebstrap",)

# Newer time stamps become this one, so that the same packages give the same layer.
_EPOCH = 1735689600
_RECIPE = 1
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def layout() -> Path:
    """Return the OCI layout of the base image, tag `latest`; `ensure` makes it.

    Raises:
        ToolchainError: if this machine's apt sources name no mirror of Debian.
    """
    return rootfs_home(PACKAGES) / "oci"


def available() -> bool:
    """Say if it can be made here; where not, the public image is used, which must be within reach."""
    try:
        _source_lines()
    except ToolchainError:
        return False
    return True


def rootfs_home(packages: tuple[str, ...]) -> Path:
    """Directory in the cache for what is made of a minimal system with `packages`."""
    facts = [_RECIPE, SUITE, sorted(packages), _source_lines(), os.uname().machine]
    return paths.cache_home() / "base" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def ensure(progress: Progress) -> Path:
    """Return the OCI layout of the base image, made where it is missing.

    Raises:
        ToolchainError: if mmdebstrap fails or there is no mirror.
    """
    home = rootfs_home(PACKAGES)
    with exclusive(paths.cache_home() / "locks" / "base.lock"):
        if not (home / "oci" / "index.json").is_file():
            with progress.job("base image"):
                _sweep(home)
                with tempfile.TemporaryDirectory(prefix=".", dir=home.parent) as aside:
                    tar = Path(aside) / "rootfs.tar"
                    rootfs(PACKAGES, tar, "base image", progress)
                    progress.phase("base image", "write the OCI layout")
                    write_layout(tar, Path(aside) / "home" / "oci")
                    shutil.rmtree(home, ignore_errors=True)
                    (Path(aside) / "home").rename(home)
    return home / "oci"


def rootfs(packages: tuple[str, ...], tar: Path, job: str, progress: Progress) -> None:
    """Write a minimal system with `packages` as a tar file.

    Raises:
        ToolchainError: if mmdebstrap is not here or fails.
    """
    if debian.missing(COMMANDS):
        raise ToolchainError("mmdebstrap is not here: install the Debian package of that name")
    progress.phase(job, "fetch and unpack packages")
    log = job.replace(" ", "-")
    log_file(log).unlink(missing_ok=True)
    command = [
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}"),
        # What images never read.
        *("--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"),
        *("--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=path-exclude=/usr/share/locale/*"),
        *(SUITE, str(tar), *_source_lines()),
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)}
    logged(log, command, environment=environment)


def write_layout(tar: Path, home: Path) -> None:
    """Write an image of one layer, the tar file, as an OCI layout with the tag `latest`; `tar` is moved."""
    blobs = home / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    with tar.open("rb") as file:
        layer = hashlib.file_digest(file, "sha256").hexdigest()
    size = tar.stat().st_size
    tar.replace(blobs / layer)

    def put(document: object) -> dict[str, object]:
        content = json.dumps(document, sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    configuration = put(
        {
            "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Env": [f"PATH={_SEARCH}"], "Cmd": ["/bin/bash"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
            "history": [{"created_by": "mmdebstrap"}],
        }
    )
    media = "application/vnd.oci.image"
    manifest = put(
        {
            "schemaVersion": 2,
            "mediaType": f"{media}.manifest.v1+json",
            "config": {"mediaType": f"{media}.config.v1+json", **configuration},
            "layers": [{"mediaType": f"{media}.layer.v1.tar", "digest": f"sha256:{layer}", "size": size}],
        }
    )
    (home / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    tag = {"org.opencontainers.image.ref.name": "latest"}
    entry = {"mediaType": f"{media}.manifest.v1+json", **manifest, "annotations": tag}
    index = {"schemaVersion": 2, "mediaType": f"{media}.index.v1+json", "manifests": [entry]}
    (home / "index.json").write_text(json.dumps(index))


def _sweep(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    for leftover in home.parent.glob(".*"):
        shutil.rmtree(leftover)


def _source_lines() -> list[str]:
    here = debian.release()
    override = os.environ.get(debian.MIRROR_VARIABLE)
    mirror = debian.mirror(debian.sources(), here.get("VERSION_CODENAME", ""), override)
    if here.get("ID") != "debian" and not override:
        raise ToolchainError(
            f"this machine is no Debian: set {debian.MIRROR_VARIABLE} to a mirror of Debian and run again"
        )
    lines = [f"deb {mirror.main} {SUITE} main", f"deb {mirror.main} {SUITE}-updates main"]
    if mirror.security:
        lines.append(f"deb {mirror.security} {SUITE}-security main")
    return lines
