#!/usr/bin/python
"""Refuse a host that is too small or not supported, before anything on it is changed (VM-1)."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
---
module: host_capacity
short_description: Refuse a host that is too small or not supported
description:
  - Compares what this host may really use with what is wanted, and fails with everything that is missing.
  - Changes nothing.
author: ICUPA operations
options:
  cpus:
    description: Least number of CPUs; the lower of affinity and the control group's quota counts.
    type: float
    required: true
  memory_mib:
    description: Least memory in MiB; the lower of MemTotal and the control groups' limits counts.
    type: int
    required: true
  disk_free_mib:
    description: Directory (or one that will be made) to the least free space in MiB on its file system.
    type: dict
    default: {}
  operating_systems:
    description: Accepted values, each C(ID VERSION_ID) of os-release, such as C(debian 13).
    type: list
    elements: str
    required: true
  python:
    description: Least version of the Python that runs modules, such as C(3.11).
    type: str
    required: true
"""

EXAMPLES = """
- name: Refuse a host that is too small
  host_capacity:
    cpus: 2
    memory_mib: 3750
    operating_systems: [debian 13, ubuntu 24.04]
    python: "3.11"
"""

RETURN = """
capacity:
  description: What was found.
  type: dict
  returned: always
problems:
  description: What is missing, a sentence each.
  type: list
  returned: always
"""

MIB = 1024 * 1024
# The v1 value for "no limit" is the largest multiple of the page size: anything near it is none.
NO_LIMIT = 1 << 60


class ControlGroup(NamedTuple):
    """One hierarchy as this process sees it: where it is mounted, and the process's own group in it."""

    version: int
    mount: Path
    group: PurePosixPath

    def ancestors(self) -> list[Path]:
        """Directories from the process's own group up to the root of the mount."""
        relative = PurePosixPath(str(self.group).lstrip("/"))
        return [self.mount / part for part in (relative, *relative.parents) if (self.mount / part).is_dir()]


def control_group(controller: str, proc: Path = Path("/proc/self")) -> ControlGroup | None:
    """Hierarchy that manages `controller`: version 1 where mounted, else version 2, else None."""
    groups: dict[str, PurePosixPath] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), PurePosixPath(path)))
    second: ControlGroup | None = None
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        mount = Path(before.split(" ")[4])
        if kind == "cgroup" and controller in options.split(",") and controller in groups:
            return ControlGroup(1, mount, groups[controller])
        if kind == "cgroup2" and "" in groups and controller in _controllers(mount):
            second = ControlGroup(2, mount, groups[""])
    return second


def _controllers(mount: Path) -> list[str]:
    listed = mount / "cgroup.controllers"
    return listed.read_text().split() if listed.is_file() else []


def _read(directory: Path, name: str) -> str | None:
    file = directory / name
    return file.read_text().strip() if file.is_file() else None


def memory_limit(group: ControlGroup | None) -> int | None:
    """Lowest memory limit in bytes of the group and its ancestors, None without one."""
    if group is None:
        return None
    name = "memory.limit_in_bytes" if group.version == 1 else "memory.max"
    found = [_read(directory, name) for directory in group.ancestors()]
    limits = [int(value) for value in found if value not in (None, "max")]
    return min((limit for limit in limits if limit < NO_LIMIT), default=None)


def cpu_quota(group: ControlGroup | None) -> float | None:
    """Lowest CPU quota of the group and its ancestors, in CPUs; None without one."""
    if group is None:
        return None
    quotas: list[float] = []
    for directory in group.ancestors():
        if group.version == 1:
            pair = [_read(directory, "cpu.cfs_quota_us"), _read(directory, "cpu.cfs_period_us")]
        else:
            pair = list((_read(directory, "cpu.max") or "max 1").split())
        quota, period = pair
        if quota not in (None, "max", "-1") and period is not None:
            quotas.append(int(str(quota)) / int(period))
    return min(quotas, default=None)


def memory_total(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemTotal in bytes."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no MemTotal in {meminfo}")


def operating_system(release: Path = Path("/etc/os-release")) -> str:
    """`ID VERSION_ID` of os-release, such as `debian 13`; `unknown` for what is missing there."""
    values = dict.fromkeys(("ID", "VERSION_ID"), "unknown")
    if release.is_file():
        for line in release.read_text().splitlines():
            key, _, value = line.partition("=")
            if key in values:
                values[key] = value.strip().strip("\"'")
    return f"{values['ID']} {values['VERSION_ID']}"


def disk_free(directory: str) -> int:
    """Bytes that may be written below `directory`, or below its nearest parent that exists."""
    path = Path(directory)
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def capacity(directories: list[str]) -> dict[str, Any]:
    """What this host may use: CPUs, bytes of memory and disk, its system, its init and its Python."""
    affinity = len(os.sched_getaffinity(0))
    quota = cpu_quota(control_group("cpu"))
    total = memory_total()
    limit = memory_limit(control_group("memory"))
    return {
        "cpus": affinity if quota is None else min(affinity, quota),
        "cpu_affinity": affinity,
        "cpu_quota": quota,
        "memory": total if limit is None else min(total, limit),
        "memory_total": total,
        "memory_limit": limit,
        "disk_free": {directory: disk_free(directory) for directory in directories},
        "operating_system": operating_system(),
        "systemd": Path("/run/systemd/system").is_dir(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
    }


def problems(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say what `found` (of `capacity`) lacks of `wanted` (this module's options), a sentence each."""
    said: list[str] = []
    if found["operating_system"] not in wanted["operating_systems"]:
        accepted = ", ".join(wanted["operating_systems"])
        said.append(f"operating system is {found['operating_system']}; supported are {accepted}")
    if not found["systemd"]:
        said.append("systemd is not running as the first process")
    if found["cpus"] < wanted["cpus"]:
        quota = "none" if found["cpu_quota"] is None else f"{found['cpu_quota']:g}"
        said.append(
            f"{found['cpus']:g} usable CPUs (affinity {found['cpu_affinity']}, quota {quota}); "
            f"at least {wanted['cpus']:g} are needed"
        )
    if found["memory"] < wanted["memory_mib"] * MIB:
        limit = "none" if found["memory_limit"] is None else f"{found['memory_limit'] // MIB} MiB"
        said.append(
            f"{found['memory'] // MIB} MiB of memory (total {found['memory_total'] // MIB} MiB, "
            f"control group's limit {limit}); at least {wanted['memory_mib']} MiB are needed"
        )
    for directory, least in wanted["disk_free_mib"].items():
        free = found["disk_free"][directory] // MIB
        if free < int(least):
            said.append(f"{free} MiB free at {directory}; at least {least} MiB are needed")
    if _version(found["python"]) < _version(wanted["python"]):
        said.append(f"Python is {found['python']}; at least {wanted['python']} is needed")
    return said


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "cpus": {"type": "float", "required": True},
            "memory_mib": {"type": "int", "required": True},
            "disk_free_mib": {"type": "dict", "default": {}},
            "operating_systems": {"type": "list", "elements": "str", "required": True},
            "python": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    found = capacity(list(module.params["disk_free_mib"]))
    missing = problems(found, module.params)
    if missing:
        module.fail_json(
            msg="This host cannot run the service, nothing was changed: " + "; ".join(missing) + ".",
            capacity=found,
            problems=missing,
        )
    module.exit_json(changed=False, capacity=found, problems=[])


if __name__ == "__main__":
    main()
