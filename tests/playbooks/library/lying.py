#!/usr/bin/python
"""Test only: a host that says, beside what it was asked, what it was told to."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Lie."""
    module = AnsibleModule(argument_spec={"said": {"type": "str", "required": True}})
    module.exit_json(changed=False, **json.loads(module.params["said"]))


if __name__ == "__main__":
    main()
