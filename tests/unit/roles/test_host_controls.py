from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.unit.roles.modules import REPOSITORY, load_module

CONTROLS: dict[str, dict[str, Any]] = {
    "ssh": {"packages": ["openssh-server"]},
    "time": {"container": "the clock is the host's", "rivals": ["chrony.service"]},
    "audit": {"paths": {"/no/such/path": "no audit here"}},
}


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_module("host_controls")


@pytest.mark.parametrize(
    ("waivers", "container", "running", "expected"),
    [
        ({}, False, set(), {"ssh": "active", "time": "active", "audit": "skipped"}),
        ({}, True, set(), {"ssh": "active", "time": "skipped", "audit": "skipped"}),
        ({}, False, {"chrony.service"}, {"ssh": "active", "time": "skipped", "audit": "skipped"}),
        ({"ssh": "Because."}, True, set(), {"ssh": "waived", "time": "skipped", "audit": "skipped"}),
    ],
)
def test_states(
    module: ModuleType, waivers: dict[str, str], container: bool, running: set[str], expected: dict[str, str]
) -> None:
    decided = module.decide(CONTROLS, waivers, container, running)
    assert {name: decision["state"] for name, decision in decided.items()} == expected
    assert all(bool(decision["reason"]) == (decision["state"] != "active") for decision in decided.values())


@pytest.mark.parametrize(
    ("waivers", "message"),
    [
        ({"shh": "Because."}, r"no control 'shh' to waive; there are audit, ssh, time"),
        ({"ssh": "  "}, r"the waiver of 'ssh' needs its reason"),
        ({"ssh": True}, r"the waiver of 'ssh' needs its reason, a sentence; got True"),
    ],
)
def test_bad_waivers_are_refused(module: ModuleType, waivers: dict[str, Any], message: str) -> None:
    with pytest.raises(module.ControlsError, match=message):
        module.decide(CONTROLS, waivers, False, set())


def test_settings_of_a_container(module: ModuleType, tmp_path: Path) -> None:
    for name, value in {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/rp_filter": "1",
        "net/ipv4/conf/eth0/rp_filter": "0",
        "kernel/dmesg_restrict": "0",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value + "\n")
    wanted = {
        "net.ipv4.ip_forward": 1,
        "net.ipv4.conf.*.rp_filter": 1,
        "kernel.dmesg_restrict": 1,
        "kernel.nothing": 1,
    }
    inside = module.settings(wanted, True, lambda _: True, tmp_path)
    assert inside["applied"] == {"net.ipv4.ip_forward": "1", "net.ipv4.conf.*.rp_filter": "1"}
    assert inside["differing"] == ["net.ipv4.conf.*.rp_filter"]
    assert set(inside["skipped"]) == {"kernel.dmesg_restrict", "kernel.nothing"}
    outside = module.settings(wanted, False, lambda _: True, tmp_path)
    assert outside["differing"] == ["net.ipv4.conf.*.rp_filter", "kernel.dmesg_restrict"]
    read_only = module.settings(wanted, True, lambda _: False, tmp_path)
    assert read_only["applied"] == {}


def test_the_report_groups_kernel_settings_by_reason(module: ModuleType) -> None:
    decided = {
        "ssh": {"state": "active", "reason": ""},
        "su": {"state": "waived", "reason": "Because."},
    }
    lines = module.report_lines(decided, {"a.b": "why", "a.c": "why"})
    assert lines == ["su: waived, Because.", "sysctl: skipped, why: a.b, a.c"]
    assert module.report_lines({"ssh": decided["ssh"]}, {}) == ["every control is active"]


def test_every_control_of_the_role_is_complete() -> None:
    role = REPOSITORY / "roles" / "hardening"
    controls = yaml.safe_load((role / "vars" / "main.yml").read_text())["_hardening_controls"]
    assert len(controls) >= 15
    named: set[str] = set()
    for name, control in controls.items():
        assert set(control) <= {
            *("packages", "units", "files", "lines", "modes", "container", "paths", "rivals")
        }, name
        named |= {file["template"] + ".j2" for file in control.get("files", [])}
        for line in control.get("lines", []):
            assert re.fullmatch(line["match"], line["line"]), f"{name}: {line['line']} would be added again"
    assert named == {path.name for path in (role / "templates").iterdir()}
