"""The Buildx builder `icupa`: our own BuildKit daemon in a container beside the engine.

It needs no `--privileged`, knows named contexts and attestations, reaches the local stack's registry by its
name and trusts its CA. Its build cache lies in the project's cache, so that taking the stack down keeps it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import docker
import grpc
from docker.errors import DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from infra import paths
from infra.local import REGISTRY
from infra.toolchain import base, debian, environment
from infra.toolchain.errors import ToolchainError
from infra.toolchain.locks import exclusive
from infra.toolchain.progress import Progress
from infra.toolchain.resolve import Tool

CONTAINER = "icupa-buildkit"
PACKAGES = (*base.PACKAGES, "runc")

_IMAGE_JOB = "builder image"
_LABEL = "icupa.builder"
_TRUST = "/etc/icupa/world"
_BINARY = "/usr/local/bin/buildkitd"
_DEADLINE = 60.0
# The runtime mounts cgroups read-only, runc writes to them.
_INIT = (
    "for mount in $(awk '$3 ~ \"^cgroup2?$\" { print $2 }' /proc/mounts); do"
    ' mount -o remount,bind,rw "$mount"; done; exec "$0" "$@"'
)


@dataclass(frozen=True)
class Places:
    """Directories that the daemon uses on this machine."""

    run: Path
    cache: Path
    trust: Path
    buildx: Path

    @property
    def socket(self) -> Path:
        """Socket of the daemon."""
        return self.run / "buildkitd.sock"


def places() -> Places:
    """Return the daemon's directories; `trust` holds `ca.pem` once secrets are prepared."""
    stack = environment.LOCAL
    return Places(
        run=paths.state_home() / "buildkit",
        cache=paths.cache_home() / "buildkit",
        trust=paths.mounted_files(stack, "world"),
        buildx=paths.docker_config(stack) / "buildx",
    )


def ensure_image(progress: Progress) -> str:
    """Return the tag of the daemon's image in the engine: a minimal system with runc.

    Raises:
        ToolchainError: if it can be made neither of Debian's packages nor of the public image.
    """
    tag = base.rootfs_home(PACKAGES).name if base.available() else f"{base.SUITE}-public"
    client = docker.from_env(timeout=300)
    with exclusive(paths.cache_home() / "locks" / "builder-image.lock"):
        try:
            client.images.get(f"{CONTAINER}:{tag}")
        except ImageNotFound:
            with progress.job(_IMAGE_JOB):
                if base.available():
                    _import_rootfs(client, tag, progress)
                else:
                    _extend_public(client, tag, progress)
    return f"{CONTAINER}:{tag}"


def _import_rootfs(client: docker.DockerClient, tag: str, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=".", dir=paths.cache_home()) as aside:
        tar = Path(aside) / "rootfs.tar"
        base.rootfs(PACKAGES, tar, _IMAGE_JOB, progress)
        progress.phase(_IMAGE_JOB, "import")
        client.api.import_image_from_file(str(tar), repository=CONTAINER, tag=tag)


def _extend_public(client: docker.DockerClient, tag: str, progress: Progress) -> None:
    """Add the packages to the public image and keep that; the engine's own builder may be missing."""
    progress.phase(_IMAGE_JOB, f"install packages on {base.PUBLIC}")
    install = f"apt-get update -q && apt-get install -yq --no-install-recommends {' '.join(PACKAGES)}"
    try:
        if not client.images.list(base.PUBLIC):
            client.images.pull(base.PUBLIC)
        container = client.containers.run(
            base.PUBLIC, ["/bin/sh", "-c", install], network_mode="host", detach=True
        )
        try:
            code = int(container.wait()["StatusCode"])
            if code:
                log = container.logs(tail=15).decode(errors="replace")
                raise ToolchainError(f"builder: packages can't be added to {base.PUBLIC}:\n{log}")
            container.commit(repository=CONTAINER, tag=tag)
        finally:
            container.remove(force=True)
    except DockerException as error:
        raise ToolchainError(
            f"builder: this machine's apt sources name no mirror of Debian (set {debian.MIRROR_VARIABLE}), "
            f"and {base.PUBLIC} can't be used: {error}"
        ) from error


def ensure(image: str, daemon: Tool, progress: Progress) -> None:
    """Have the daemon run as these pins say, and the builder registered.

    Raises:
        ToolchainError: if it does not answer; holds the last lines of its log.
    """
    where = places()
    with exclusive(paths.cache_home() / "locks" / "builder.lock"):
        for directory in (where.run, where.cache, where.trust, where.buildx / "instances"):
            paths.private(directory)
        register(where)
        configuration = _configuration()
        (where.run / "buildkitd.toml").write_text(configuration)
        client = docker.from_env()
        wanted = _fingerprint(image, daemon.binary, configuration, where)
        if _current(client, wanted) and _answers(where.socket, 5):
            return
        with progress.job("builder"):
            progress.phase("builder", "start")
            _remove(client)
            container = _run(client, image, daemon.binary, where, wanted)
            _await(container, where.socket)


def register(where: Places) -> None:
    """Write the builder into the project's own Buildx configuration."""
    node: dict[str, object] = {
        "Name": f"{environment.BUILDER}0",
        "Endpoint": f"unix://{where.socket}",
        "Platforms": None,
        "DriverOpts": {},
        "Flags": None,
        "Files": None,
    }
    instance = {"Name": environment.BUILDER, "Driver": "remote", "Nodes": [node], "Dynamic": False}
    file = where.buildx / "instances" / environment.BUILDER
    content = json.dumps(instance)
    if not file.is_file() or file.read_text() != content:
        aside = file.with_name(f".{environment.BUILDER}")
        aside.write_text(content)
        aside.replace(file)


def remove() -> None:
    """Take the daemon down and forget its socket; its build cache stays."""
    _remove(docker.from_env())
    shutil.rmtree(places().run, ignore_errors=True)


def _configuration() -> str:
    return f'[registry."{REGISTRY.host}"]\n  ca = ["{_TRUST}/ca.pem"]\n'


def _fingerprint(image: str, binary: Path, configuration: str, where: Places) -> str:
    facts = [image, str(binary), configuration, _INIT, str(where), str(REGISTRY.address)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _current(client: docker.DockerClient, wanted: str) -> bool:
    try:
        container = client.containers.get(CONTAINER)
    except NotFound:
        return False
    return container.status == "running" and container.labels.get(_LABEL) == wanted


def _remove(client: docker.DockerClient) -> None:
    try:
        client.containers.get(CONTAINER).remove(force=True, v=True)
    except NotFound:
        return


def _run(client: docker.DockerClient, image: str, binary: Path, where: Places, fingerprint: str) -> Container:
    where.socket.unlink(missing_ok=True)
    mounts = {
        str(binary.resolve()): {"bind": _BINARY, "mode": "ro"},
        str(where.cache): {"bind": "/var/lib/buildkit", "mode": "rw"},
        str(where.run): {"bind": "/run/buildkit", "mode": "rw"},
        str(where.trust): {"bind": _TRUST, "mode": "ro"},
    }
    daemon = [
        *(
            _BINARY,
            "--config",
            "/run/buildkit/buildkitd.toml",
            "--addr",
            "unix:///run/buildkit/buildkitd.sock",
        ),
        *("--allow-insecure-entitlement", "network.host", "--oci-worker-net", "host"),
    ]
    try:
        return client.containers.run(
            image,
            ["/bin/sh", "-c", _INIT, *daemon],
            name=CONTAINER,
            detach=True,
            network_mode="host",
            cap_add=["SYS_ADMIN", "NET_ADMIN"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            cgroupns="private",
            extra_hosts={REGISTRY.host: str(REGISTRY.address)},
            volumes=mounts,
            labels={_LABEL: fingerprint},
            restart_policy={"Name": "always"},
        )
    except DockerException as error:
        raise ToolchainError(f"builder: {error}") from error


def _await(container: Container, socket: Path) -> None:
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        if socket.exists() and _answers(socket, deadline - time.monotonic()):
            return
        container.reload()
        if container.status in {"exited", "restarting", "dead"}:
            break
        time.sleep(0.2)
    log = container.logs(tail=15).decode(errors="replace")
    raise ToolchainError(f"builder: {CONTAINER} does not answer at {socket}:\n{log}")


def _answers(socket: Path, seconds: float) -> bool:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=max(seconds, 0.1))
        except grpc.FutureTimeoutError:
            return False
    return True
