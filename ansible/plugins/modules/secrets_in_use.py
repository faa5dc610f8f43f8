#!/usr/bin/python
"""Which containers of a Compose project have a value; see DOCUMENTATION."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: secrets_in_use
short_description: Which containers of a Compose project have which values
description:
  - Looks at the processes themselves, at their environment and at the files that are mounted into them, as
    they see them. Says where a value was found and never the value. Changes nothing.
options:
  project: {description: Name of the Compose project., type: str, required: true}
  values: {description: Values by a name; never shown., type: dict, required: true}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: See who has it
  secrets_in_use:
    project: agents-service
    values: {new: "{{ value }}"}
"""

RETURN = """
found:
  description: Service to the names of the values that its running containers have.
  type: dict
  returned: success
"""

TIMEOUT = 30
LARGEST = 1024 * 1024
"""Octets of a mounted file that is looked into; secrets are smaller."""


def docker(*arguments: str) -> str:
    """Output of a command; CalledProcessError where it fails."""
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=True
    ).stdout


def texts(process: Path, mounts: list[dict[str, Any]]) -> list[bytes]:
    """All that a process was given: its environment, and files that are mounted one by one."""
    found = [(process / "environ").read_bytes()]
    for mount in mounts:
        file = process / "root" / str(mount["Destination"]).lstrip("/")
        if mount["Type"] == "bind" and file.is_file() and file.stat().st_size <= LARGEST:
            found.append(file.read_bytes())
    return found


def in_use(project: str, values: dict[str, str]) -> dict[str, list[str]]:
    """Service to the names of values that its containers have; those of single commands do not count."""
    wanted = (f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False")
    ids = docker(
        "ps", "--quiet", *(word for label in wanted for word in ("--filter", f"label={label}"))
    ).split()
    found: dict[str, set[str]] = {}
    for item in json.loads(docker("inspect", *ids)) if ids else []:
        service = found.setdefault(item["Config"]["Labels"].get("com.docker.compose.service", ""), set())
        given = texts(Path("/proc") / str(item["State"]["Pid"]), item["Mounts"])
        service |= {name for name, value in values.items() if any(value.encode() in text for text in given)}
    return {service: sorted(names) for service, names in found.items()}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "values": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        found = in_use(module.params["project"], module.params["values"])
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{error.cmd[1]}: {error.stderr.strip()}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"containers can't be looked at: {type(error).__name__}: {error}")
    module.exit_json(changed=False, found=found)


if __name__ == "__main__":
    main()
