#!/usr/bin/python
"""Waits until services of a Compose project answer; see DOCUMENTATION."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: service_answers
short_description: Wait until services of a Compose project answer over HTTP
description:
  - Asks the containers themselves, from the host, so that ports need not be published. Changes nothing.
options:
  project: {description: Name of the Compose project., type: str, required: true}
  checks:
    description: What must answer, and with which text.
    type: list
    elements: dict
    required: true
    suboptions:
      service: {description: Name of the service., type: str, required: true}
      port: {description: Port of the container., type: int, required: true}
      path: {description: Path and query., type: str}
      contains: {description: Text of the answer., type: str}
      status: {description: Status of the answer., type: int}
      bearer: {description: Token to ask with; never shown., type: str}
  timeout: {description: Seconds until all must answer., type: int}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Wait for the collector
  service_answers:
    project: agents-service
    checks:
      - {service: otel-collector, port: 13133, path: /}
"""

RETURN = """
answered: {description: Checks that answered., type: list, returned: success}
"""

POLL = 0.25
REQUEST_TIMEOUT = 3


def addresses(project: str) -> dict[str, list[str]]:
    """Service to the addresses of its running containers, but those of single commands."""
    wanted = [f"label=com.docker.compose.project={project}", "label=com.docker.compose.oneoff=False"]
    listed = subprocess.run(
        ["docker", "ps", "--quiet", *(word for label in wanted for word in ("--filter", label))],
        capture_output=True,
        text=True,
        check=True,
    )
    ids = listed.stdout.split()
    if not ids:
        return {}
    inspected = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=False)
    found: dict[str, list[str]] = {}
    for item in json.loads(inspected.stdout):
        service = item["Config"]["Labels"].get("com.docker.compose.service", "")
        networks = item["NetworkSettings"]["Networks"].values()
        found.setdefault(service, []).extend(
            network["IPAddress"] for network in networks if network["IPAddress"]
        )
    return found


def ask(address: str, check: dict[str, Any]) -> str:
    """What is wrong with one answer; empty where nothing is."""
    port, contains = check["port"], check["contains"]
    connection = http.client.HTTPConnection(address, port, timeout=REQUEST_TIMEOUT)
    try:
        headers = {"Authorization": f"Bearer {check['bearer']}"} if check["bearer"] else {}
        connection.request("GET", check["path"], headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    if answer.status != check["status"]:
        return f"answers {answer.status}"
    return "" if contains in body else f"answers without {contains!r}"


def problem(check: dict[str, Any], found: dict[str, list[str]]) -> str:
    """What is wrong with one service; empty where one of its addresses answers as it must."""
    said = [ask(address, check) for address in found.get(check["service"], [])]
    if not said:
        return "does not run"
    # One of several networks may not lead to the port: what answered says more than what did not.
    return "" if "" in said else max(said, key=lambda text: text.startswith("answers"))


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "checks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "service": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "path": {"type": "str", "default": "/"},
                    "contains": {"type": "str", "default": ""},
                    "status": {"type": "int", "default": 200},
                    "bearer": {"type": "str", "no_log": True},
                },
            },
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="a dry run waits for nothing")
    if shutil.which("docker") is None:
        module.fail_json(msg="docker is not installed")
    deadline = time.monotonic() + module.params["timeout"]
    while True:
        found = addresses(module.params["project"])
        wrong = {
            f"{check['service']}:{check['port']}{check['path']}": said
            for check in module.params["checks"]
            if (said := problem(check, found))
        }
        if not wrong:
            module.exit_json(changed=False, answered=[check["service"] for check in module.params["checks"]])
        if time.monotonic() > deadline:
            listed = "; ".join(f"{name} {said}" for name, said in sorted(wrong.items()))
            module.fail_json(msg=f"not answering after {module.params['timeout']} s: {listed}")
        time.sleep(POLL)


if __name__ == "__main__":
    main()
