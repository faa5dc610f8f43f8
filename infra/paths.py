"""Where things lie outside the tree: the only place that knows (docs/architecture.md)."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
STACK_ENV = "ICUPA_STACK"
"""Variable with the name of the stack that is meant where none is named."""


def cache_home() -> Path:
    """Directory of what can be built again: tools keyed by pins, virtual environment, base image."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "icupa"


def state_home() -> Path:
    """Directory of what can't be built again here; Pulumi.yaml's backend names it too."""
    return Path.home() / ".local" / "state" / "icupa"


def private(directory: Path) -> Path:
    """Make `directory` and what is missing above it, each with mode 0700; return it."""
    for part in (*reversed(directory.parents), directory):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)
    return directory


def pulumi_backend() -> Path:
    """Directory of Pulumi's file backend."""
    return state_home() / "pulumi"


def is_local(stack: str) -> bool:
    """Whether a stack keeps all it has on this machine: `local`, `local-k8s`."""
    return stack.startswith("local")


def stack_home(stack: str) -> Path:
    """Directory of one local stack's record, age identity and mounted files."""
    return state_home() / stack


def operations(stack: str) -> Path:
    """Directory with one status file a running operation: what its heartbeat says."""
    return stack_home(stack) / "operations"


def mounted_files(stack: str, consumer: str) -> Path:
    """Directory with the files that one container or machine of a local stack mounts."""
    return stack_home(stack) / "files" / consumer


def docker_config(stack: str) -> Path:
    """Directory for DOCKER_CONFIG with the registry login of a stack."""
    return stack_home(stack) / "docker"


def image_tools() -> Path:
    """Directory, inside the tree and ignored by git, with the binaries that images copy."""
    return REPOSITORY / "build" / "tools"


def tools_bin() -> Path:
    """Directory, inside the tree and ignored by git, with links to the tools that this checkout uses."""
    return REPOSITORY / "build" / "bin"


def virtual_environment() -> Path:
    """Link, inside the tree and ignored by git, to the virtual environment in the cache."""
    return REPOSITORY / "build" / "venv"


def pulumi_home() -> Path:
    """Directory for PULUMI_HOME: plugins installed for this project never shadow a user's own."""
    return cache_home() / "pulumi"


def toolchain_pins() -> Path:
    """Directory with one folder of pins a tool."""
    return REPOSITORY / "toolchain"


def image_trust() -> Path:
    """Directory with this machine's `ca-certificates.crt`; its name is that of the builds' named context."""
    return image_tools() / "trust"
