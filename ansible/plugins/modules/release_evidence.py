#!/usr/bin/python
"""What is known of a service's containers when something went wrong; see DOCUMENTATION."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: release_evidence
short_description: State, health checks and last log lines of a service's containers
description:
  - Changes nothing. Called by the action plugin of the same name, which takes values of secrets out.
options:
  project: {description: Name of the Compose project., type: str, required: true}
  services: {description: Names of services., type: list, elements: str, required: true}
  lines: {description: Log lines of each container., type: int}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: See what the new slot said
  release_evidence:
    project: agents-service
    services: [agents-green, migrate-green]
"""

RETURN = """
containers: {description: One entry a container., type: list, returned: success}
"""

LINES = 200
TIMEOUT = 30


def docker(*arguments: str) -> str:
    """Output of a command, errors below it: services log to both."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False, errors="replace"
    )
    return done.stdout + done.stderr


def described(item: dict[str, Any], lines: int) -> dict[str, Any]:
    """What matters of one container; not its environment, which holds secrets."""
    return {
        "service": item["Config"]["Labels"].get("com.docker.compose.service", ""),
        "image": item["Config"]["Image"],
        "created": item["Created"],
        "restarts": item.get("RestartCount", 0),
        "state": {key: value for key, value in item["State"].items() if key != "Health"},
        "health": item["State"].get("Health"),
        "log": docker("logs", "--timestamps", "--tail", str(lines), item["Id"]).splitlines(),
    }


def containers(project: str, services: list[str], lines: int) -> list[dict[str, Any]]:
    """Containers of some services, also ended ones."""
    ids: list[str] = []
    for service in services:
        labels = (f"com.docker.compose.project={project}", f"com.docker.compose.service={service}")
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        ids += docker("ps", "--all", "--quiet", *filters).split()
    if not ids:
        return []
    return [described(item, lines) for item in json.loads(docker("inspect", *ids))]


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
            "lines": {"type": "int", "default": LINES},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        found = containers(parameters["project"], parameters["services"], parameters["lines"])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, containers=found)


if __name__ == "__main__":
    main()
