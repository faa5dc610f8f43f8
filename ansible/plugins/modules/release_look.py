#!/usr/bin/python
"""Looks at a host once, before a release is moved to it; see DOCUMENTATION."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.containers import (
    ConvergeError,
    container,
    labels_of,
    unfit,
    unit_problems,
    unit_properties,
)
from ansible.module_utils.images import ImagesError, all_containers, listed
from ansible.module_utils.tree import FilesError, below, ensure_directory, read_regular

DOCUMENTATION = """
module: release_look
short_description: See what a host has and runs, and changes nothing
description:
  - In one run, since each costs the host as much as it takes to see everything.
  - Which images of the release's repository there are; whether the project can be written; and whether what
    runs is what must run, as M(compose_project) would tell in a dry run.
  - Called by the action plugin of the same name.
options:
  repository: {description: "Registry and path, without tag or digest.", type: str, required: true}
  project: {description: Name of the Compose project., type: str, required: true}
  unit: {description: Name of the systemd unit., type: str, required: true}
  root: {description: Directory of the project., type: path, required: true}
  directories: {description: Directories below the root., type: list, elements: str}
  files: {description: Files below the root., type: list, elements: str}
  services:
    description: Service to its C(configuration) hash and whether it is a C(job) that ends.
    type: dict
    required: true
  idle: {description: Services that must not run., type: list, elements: str}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Look at what is there
  release_look:
    root: /opt/icupa/deployments/agents-service
    unit: agents-service.service
    owner: {uid: 1500, gid: 1500}
    project: "{{ icupa_project }}"
"""

RETURN = """
images:
  description: "What there is of the repository: digest, id, names, labels, containers, bytes."
  type: list
  returned: success
reasons: {description: Why the project would have to be converged., type: list, returned: success}
ready: {description: Whether all that must run is healthy., type: bool, returned: success}
"""

KEPT = (0, 0, 0)
"""Mode and owner of a directory that is only looked at."""


def writable(root: Path, directories: list[str], files: list[str]) -> None:
    """Raise FilesError where the project can't be written."""
    for directory in (root, *(below(root, path) for path in directories)):
        ensure_directory(directory, KEPT, check=True)
    for path in files:
        read_regular(below(root, path))


def look(parameters: dict[str, Any]) -> dict[str, Any]:
    """Everything that the module tells."""
    writable(Path(parameters["root"]), parameters["directories"], parameters["files"])
    everything = all_containers()
    wanted = labels_of(parameters["project"]).items()
    containers = [
        container(item) for item in everything if wanted <= (item["Config"].get("Labels") or {}).items()
    ]
    services, idle, unit = parameters["services"], parameters["idle"], parameters["unit"]
    wrong = {
        **unfit(services, idle, containers, ready=False),
        **unit_problems(unit, unit_properties(unit)),
    }
    return {
        "images": listed(parameters["repository"], everything),
        "reasons": [f"{name} {what}" for name, what in sorted(wrong.items())],
        "ready": not (wrong or unfit(services, idle, containers, ready=True)),
    }


def main() -> None:
    """Entry point of the module."""
    texts = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "str", "required": True},
            "project": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "directories": texts,
            "files": texts,
            "services": {"type": "dict", "required": True},
            "idle": texts,
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **look(module.params))
    except FileNotFoundError as error:
        module.fail_json(msg=f"{error.filename} is not installed")
    except (ConvergeError, FilesError, ImagesError, OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
