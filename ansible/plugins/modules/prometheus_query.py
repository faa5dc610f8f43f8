#!/usr/bin/python
"""Asks a host's Prometheus; see DOCUMENTATION."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: prometheus_query
short_description: Ask the Prometheus that listens on a host's loopback address
description:
  - Instant queries, all evaluated at the same time. Changes nothing.
  - Its answers are handed on as they are, errors of a query too; only a server that does not answer fails.
options:
  queries: {description: Name to PromQL., type: dict, required: true}
  url: {description: Where it listens., type: str}
  timeout: {description: Seconds for each query., type: float}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Count the targets that answer
  prometheus_query:
    queries: {targets: "sum(up)"}
"""

RETURN = """
answers: {description: Name to the body of the API's answer., type: dict, returned: success}
at: {description: Time of evaluation, the host's, seconds since 1970., type: float, returned: success}
"""


def ask(url: str, query: str, at: float, timeout: float) -> Any:
    """Body of `/api/v1/query`, also where the status says that the query is wrong."""
    form = urllib.parse.urlencode({"query": query, "time": f"{at:.3f}"}).encode()
    request = urllib.request.Request(f"{url}/api/v1/query", data=form)  # noqa: S310 - a loopback address
    # The proxies of the environment are for the outside world.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "queries": {"type": "dict", "required": True},
            "url": {"type": "str", "default": "http://127.0.0.1:9090"},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    url, at = module.params["url"].rstrip("/"), time.time()
    answers = {}
    for name, query in module.params["queries"].items():
        try:
            answers[name] = ask(url, query, at, module.params["timeout"])
        except (OSError, ValueError) as error:
            module.fail_json(
                msg=f"Prometheus at {url} did not answer {name}: {error or type(error).__name__}"
            )
    module.exit_json(changed=False, answers=answers, at=at)


if __name__ == "__main__":
    main()
