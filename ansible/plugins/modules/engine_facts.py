#!/usr/bin/python
"""Find what of Docker Engine and Compose v2 a host has; see DOCUMENTATION."""

from __future__ import annotations

import platform
import resource
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
---
module: engine_facts
short_description: Find what of Docker Engine and Compose v2 a host has
description:
  - Looks for the engine, its client and the Compose plugin, whoever installed them. Changes nothing.
author: ICUPA operations
"""

EXAMPLES = """
- name: Find what is installed
  engine_facts:
"""

RETURN = """
system: {description: "Distribution and major version, such as C(debian 13).", type: str, returned: always}
programs: {description: "Which of dockerd, docker and docker-compose are there.", type: list,
  returned: always}
open_files:
  description: Highest limit of open files that a container can get here, null where the engine may raise it.
  type: int
  returned: always
running: {description: Whether the engine is enabled and active., type: bool, returned: always}
"""

BIN = ("/usr/bin", "/usr/sbin", "/usr/local/bin")
SYS_RESOURCE = 1 << 24
PLUGINS = ("/usr/libexec/docker", "/usr/lib/docker", "/usr/local/lib/docker", "/usr/local/libexec/docker")


def found(root: Path = Path("/")) -> list[str]:
    """Programs that are installed; Compose as a plugin only, since a program of that name is version 1."""
    places = {
        "dockerd": [Path(directory) / "dockerd" for directory in BIN],
        "docker": [Path(directory) / "docker" for directory in BIN],
        "docker-compose": [Path(directory) / "cli-plugins" / "docker-compose" for directory in PLUGINS],
    }
    return [
        name
        for name, paths in places.items()
        if any((root / path.relative_to("/")).is_file() for path in paths)
    ]


def open_files(status: Path = Path("/proc/1/status")) -> int | None:
    """Hard limit of open files where the first process may not raise limits, as in a container; else None."""
    for line in status.read_text().splitlines():
        if line.startswith("CapBnd:") and int(line.split()[1], 16) & SYS_RESOURCE:
            return None
    return resource.prlimit(1, resource.RLIMIT_NOFILE)[1]


def system() -> str:
    """Distribution and major version."""
    release = platform.freedesktop_os_release()
    return f"{release.get('ID', 'unknown')} {release.get('VERSION_ID', 'unknown').split('.')[0]}"


def running() -> bool:
    """Whether the unit of the engine is enabled and active."""
    shown = subprocess.run(
        ["systemctl", "show", "--property=UnitFileState,ActiveState", "docker.service"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return set(shown.split()) == {"UnitFileState=enabled", "ActiveState=active"}


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(
        changed=False, system=system(), programs=found(), open_files=open_files(), running=running()
    )


if __name__ == "__main__":
    main()
