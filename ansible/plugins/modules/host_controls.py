#!/usr/bin/python
"""Find which controls of hardening apply to a host, and what it lacks for them; see DOCUMENTATION."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
---
module: host_controls
short_description: Find which controls of hardening apply to this host
description:
  - Says of every control whether it is active, skipped or waived, and why.
  - Says what the host lacks for the active ones.
  - Changes nothing.
author: ICUPA operations
options:
  controls:
    description: >-
      Name to what a control needs, all optional, C(packages), C(units), C(container) (why it is skipped in a
      container), C(paths) (path to why it is skipped without it) and C(rivals) (units that do its work).
    type: dict
    required: true
  waivers:
    description: Name of a control to the reason why it is turned off.
    type: dict
    default: {}
  sysctls:
    description: Kernel setting to value; a star stands for any interface.
    type: dict
    default: {}
"""

EXAMPLES = """
- name: Find which controls apply
  host_controls:
    controls:
      time_sync: {packages: [systemd-timesyncd], container: the clock is the host's}
    waivers: {fail2ban: "The load balancer bans."}
"""

RETURN = """
lines: {description: "What is not active, and why, a sentence each.", type: list, returned: always}
report: {description: "Name to C(state) (active, skipped, waived), C(reason).", type: dict, returned: always}
active: {description: Names of the active ones., type: list, returned: always}
container: {description: Whether this host is a container., type: bool, returned: always}
packages: {description: Packages that active controls lack., type: list, returned: always}
units: {description: "Unit to C(exists), C(enabled) and C(active).", type: dict, returned: always}
sysctls: {description: "Settings C(applied), C(differing), C(skipped) and why.", type: dict, returned: always}
ssh: {description: "Ports of sshd, and the algorithms that it knows.", type: dict, returned: always}
tables: {description: "Tables of nftables, such as C(inet icupa).", type: list, returned: always}
audit_outdated: {description: Whether the audit lacks rules of its files., type: bool, returned: always}
"""

PROC_SYS = Path("/proc/sys")
ALGORITHMS = ("kex", "cipher", "mac", "key", "key-sig")
NOT_OURS = "this kernel belongs to the host of the container"
NOT_THERE = "this kernel has no such setting"


class ControlsError(Exception):
    """The options name something that does not exist."""


def output(*command: str) -> str | None:
    """Standard output of a command, None where it is not installed or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def decide(
    controls: dict[str, dict[str, Any]], waivers: dict[str, str], container: bool, running: set[str]
) -> dict[str, dict[str, str]]:
    """State and reason of every control; `running` are the active ones of the controls' rivals.

    Raises:
        ControlsError: a waiver without a reason, or for a control that does not exist.
    """
    for name, reason in waivers.items():
        if name not in controls:
            raise ControlsError(f"no control {name!r} to waive; there are {', '.join(sorted(controls))}")
        if not isinstance(reason, str) or not reason.strip():
            raise ControlsError(f"the waiver of {name!r} needs its reason, a sentence; got {reason!r}")
    decided: dict[str, dict[str, str]] = {}
    for name, control in controls.items():
        missing = [reason for path, reason in (control.get("paths") or {}).items() if not Path(path).exists()]
        if name in waivers:
            decided[name] = {"state": "waived", "reason": waivers[name]}
        elif container and control.get("container"):
            decided[name] = {"state": "skipped", "reason": control["container"]}
        elif missing:
            decided[name] = {"state": "skipped", "reason": "; ".join(missing)}
        elif rivals := [unit for unit in control.get("rivals") or [] if unit in running]:
            decided[name] = {"state": "skipped", "reason": f"{', '.join(rivals)} does it already"}
        else:
            decided[name] = {"state": "active", "reason": ""}
    return decided


def report_lines(decided: dict[str, dict[str, str]], skipped: dict[str, str]) -> list[str]:
    """What is not active and why, a line each; kernel settings with the same reason together."""
    lines = [
        f"{name}: {decision['state']}, {decision['reason']}"
        for name, decision in decided.items()
        if decision["state"] != "active"
    ]
    for reason in dict.fromkeys(skipped.values()):
        names = ", ".join(name for name, found in skipped.items() if found == reason)
        lines.append(f"sysctl: skipped, {reason}: {names}")
    return lines or ["every control is active"]


def missing_packages(names: list[str]) -> list[str]:
    """Those of the packages that dpkg does not list as installed."""
    if not names:
        return []
    # dpkg-query fails when it does not know one of them, but lists the others.
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def unit_states(names: list[str]) -> dict[str, dict[str, bool]]:
    """Whether each unit exists, is enabled (or needs not be) and is active."""
    if not names:
        return {}
    shown = output("systemctl", "show", "--property=LoadState,UnitFileState,ActiveState", "--", *names) or ""
    states: dict[str, dict[str, bool]] = {}
    for name, block in zip(names, shown.strip().split("\n\n"), strict=True):
        values = dict(line.split("=", 1) for line in block.splitlines())
        states[name] = {
            "exists": values["LoadState"] == "loaded",
            "enabled": values["UnitFileState"] in ("enabled", "static", "indirect", "alias", "generated"),
            "active": values["ActiveState"] in ("active", "activating", "reloading"),
        }
    return states


def setting_files(name: str, root: Path = PROC_SYS) -> list[Path]:
    """Files of a kernel setting: several where its name has a star."""
    return sorted(root.glob(name.replace(".", "/")))


def settings(wanted: dict[str, Any], container: bool, writable: Any, root: Path = PROC_SYS) -> dict[str, Any]:
    """Which settings can be applied, which of those differ now, and which are skipped and why."""
    applied: dict[str, str] = {}
    differing: list[str] = []
    skipped: dict[str, str] = {}
    for name, value in wanted.items():
        files = setting_files(name, root)
        if not files:
            skipped[name] = NOT_THERE
        elif container and not (name.startswith("net.") and all(writable(file) for file in files)):
            skipped[name] = NOT_OURS
        else:
            applied[name] = str(value)
            if any(file.read_text().split() != str(value).split() for file in files):
                differing.append(name)
    return {"applied": applied, "differing": differing, "skipped": skipped}


def is_writable(file: Path) -> bool:
    """Whether the file is on a file system that may be written."""
    try:
        with file.open("r+"):
            return True
    except OSError:
        return False


def ssh_facts() -> dict[str, Any]:
    """Ports that sshd listens on by its configuration, and names of the algorithms it was built with."""
    effective = output("sshd", "-T") or output("/usr/sbin/sshd", "-T") or ""
    ports = [int(line.split()[1]) for line in effective.splitlines() if line.startswith("port ")]
    return {
        "ports": ports or [22],
        "algorithms": {kind: (output("ssh", "-Q", kind) or "").split() for kind in ALGORITHMS},
    }


def table_names() -> list[str]:
    """Tables of nftables as `family name`; none where nft is not installed."""
    listed = json.loads(output("nft", "--json", "list", "tables") or '{"nftables": []}')
    tables = [entry["table"] for entry in listed["nftables"] if "table" in entry]
    return [f"{table['family']} {table['name']}" for table in tables]


def audit_outdated() -> bool:
    """Whether the rules of the audit were not made of their files yet; false where it isn't installed."""
    return "should be updated" in (output("/usr/sbin/augenrules", "--check") or "")


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "controls": {"type": "dict", "required": True},
            "waivers": {"type": "dict", "default": {}},
            "sysctls": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    controls: dict[str, dict[str, Any]] = module.params["controls"]
    container = output("systemd-detect-virt", "--container") is not None
    rivals = list(
        dict.fromkeys(unit for control in controls.values() for unit in control.get("rivals") or [])
    )
    running = {name for name, state in unit_states(rivals).items() if state["active"]}
    try:
        decided = decide(controls, module.params["waivers"], container, running)
    except ControlsError as error:
        module.fail_json(msg=f"hardening_waivers: {error}. Nothing was changed.")
    active = [name for name, decision in decided.items() if decision["state"] == "active"]
    packages = dict.fromkeys(package for name in active for package in controls[name].get("packages") or [])
    units = dict.fromkeys(unit for name in active for unit in controls[name].get("units") or [])
    kernel = settings(module.params["sysctls"], container, is_writable)
    module.exit_json(
        changed=False,
        report=decided,
        lines=report_lines(decided, kernel["skipped"] if "sysctl" in active else {}),
        active=active,
        container=container,
        packages=missing_packages(list(packages)),
        units=unit_states(list(units)),
        sysctls=kernel,
        ssh=ssh_facts(),
        tables=table_names(),
        audit_outdated=audit_outdated(),
    )


if __name__ == "__main__":
    main()
