"""What a cloud's machine does at its first boot."""

from __future__ import annotations

from collections.abc import Sequence

import yaml


def cloud_init(user: str, keys: Sequence[str]) -> str:
    """First boot: the operators' user, and nobody else. Holds no secret."""
    document = {
        "users": [
            {
                "name": user,
                "gecos": "Operations",
                "groups": ["sudo"],
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(keys),
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "package_update": True,
        "packages": ["python3"],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=1000)
