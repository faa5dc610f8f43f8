#!/usr/bin/python
"""Waits until valid certificates are served; see DOCUMENTATION."""

from __future__ import annotations

import socket
import ssl
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: served_certificate
short_description: Wait until a host serves a valid certificate for each name
description:
  - Connects to an address with each name, and checks chain, name and remaining time. Changes nothing.
options:
  names: {description: Names the certificate must be valid for., type: list, elements: str, required: true}
  address: {description: Address to connect to., type: str}
  port: {description: Port to connect to., type: int}
  trust: {description: PEM certificates to trust besides the system's., type: str}
  remaining: {description: Least seconds before the certificate ends., type: int}
  timeout: {description: Seconds until all names must be served., type: int}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Wait for the certificate
  served_certificate:
    names: [agents.icupa.dev]
"""

RETURN = """
ends: {description: Name to the end of its certificate., type: dict, returned: success}
"""

POLL = 0.5
CONNECT_TIMEOUT = 5


def ends(address: str, port: int, name: str, context: ssl.SSLContext) -> tuple[str, float]:
    """End of the certificate served for a name, as text and in seconds from now; raises OSError."""
    with (
        socket.create_connection((address, port), timeout=CONNECT_TIMEOUT) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        certificate = secured.getpeercert() or {}
    text = str(certificate["notAfter"])
    return text, ssl.cert_time_to_seconds(text) - time.time()


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "address": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 443},
            "trust": {"type": "str", "default": ""},
            "remaining": {"type": "int", "default": 3600},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="a dry run waits for nothing")
    parameters = module.params
    context = ssl.create_default_context()
    if parameters["trust"]:
        context.load_verify_locations(cadata=parameters["trust"])
    deadline = time.monotonic() + parameters["timeout"]
    while True:
        wrong, found = [], {}
        for name in parameters["names"]:
            try:
                text, remaining = ends(parameters["address"], parameters["port"], name, context)
            except OSError as error:
                wrong.append(f"{name}: {error}")
                continue
            found[name] = text
            if remaining < parameters["remaining"]:
                wrong.append(f"{name}: the certificate ends at {text}")
        if not wrong:
            module.exit_json(changed=False, ends=found)
        if time.monotonic() > deadline:
            module.fail_json(msg=f"no valid certificate after {parameters['timeout']} s: {'; '.join(wrong)}")
        time.sleep(POLL)


if __name__ == "__main__":
    main()
