#!/usr/bin/python
"""Reads a part of a backup; see DOCUMENTATION."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: backup_part
short_description: Read a part of a backup, or check all of it
description:
  - For copies off the host in pieces that fit into memory, and for checks without a copy. Changes nothing.
options:
  path: {description: The encrypted file., type: path, required: true}
  offset: {description: Where the part begins; without it the file's checksum is made., type: int}
  length: {description: Octets of the part., type: int}
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Read the first part
  backup_part:
    path: /var/backups/icupa/20261120T020000Z-primary/database.dump.age
    offset: 0
    length: 4194304
"""

RETURN = """
exists: {description: Whether there is such a file., type: bool, returned: always}
content: {description: The part, in base64., type: str, returned: with an offset}
sha256: {description: Checksum of the part, or of the file., type: str, returned: where it exists}
"""


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "offset": {"type": "int"},
            "length": {"type": "int"},
        },
        required_together=[["offset", "length"]],
        supports_check_mode=True,
    )
    path, offset = Path(module.params["path"]), module.params["offset"]
    if not path.is_file():
        module.exit_json(changed=False, exists=False)
    if offset is None:
        module.exit_json(changed=False, exists=True, sha256=checksum(path))
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(module.params["length"])
    module.exit_json(
        changed=False,
        exists=True,
        content=base64.b64encode(data).decode(),
        sha256=hashlib.sha256(data).hexdigest(),
    )


if __name__ == "__main__":
    main()
