"""Outputs and the inventory made of them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from infra.outputs.model import StackError
from infra.outputs.read import parse_outputs, read_outputs
from infra.record import open_record
from infra.site.bootstrap import bootstrap_record
from tests.unit.ansible.conftest import DIGEST, IMAGE, PLUGINS, load_plugin

ANSIBLE = PLUGINS.parent


def inventory(
    tmp_path: Path, outputs: dict[str, Any] | str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`ansible-inventory --list` as an operator runs it, with a home of its own."""
    file = tmp_path / "outputs.json"
    file.write_text(outputs if isinstance(outputs, str) else json.dumps(outputs))
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ANSIBLE.parent),
        "ICUPA_OUTPUTS_FILE": str(file),
        **environment,
    }
    return subprocess.run(
        ["ansible-inventory", "--list", *arguments],
        cwd=ANSIBLE,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def listed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the inventory lists; texts that Ansible will not take for templates are wrapped there."""
    assert done.returncode == 0, done.stderr

    def unwrapped(found: dict[str, Any]) -> Any:
        return found["__ansible_unsafe"] if found.keys() == {"__ansible_unsafe"} else found

    return dict(json.loads(done.stdout, object_hook=unwrapped))


def test_groups_hosts_and_pins_their_keys(tmp_path: Path, raw_outputs: dict[str, Any]) -> None:
    done = inventory(tmp_path, raw_outputs, "-e", "stack=test")
    found = listed(done)
    assert found["machines"]["hosts"] == ["primary", "standby"]
    assert "standby" not in found, "the host has this name already"
    assert done.stderr == ""
    assert found["region_fra1"]["hosts"] == ["standby"]
    assert "primary" in found["region_primary"]["hosts"]
    standby = found["_meta"]["hostvars"]["standby"]
    pinned = tmp_path / ".local" / "state" / "icupa" / "test" / "known_hosts"
    assert pinned.read_text().splitlines() == [
        "10.80.0.20 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKh6bLx6",
        "[10.80.0.30]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKh6bLx6",
    ]
    assert stat.S_IMODE(pinned.stat().st_mode) == 0o600
    assert f"UserKnownHostsFile={pinned}" in standby["ansible_ssh_common_args"]
    assert "StrictHostKeyChecking=yes" in standby["ansible_ssh_common_args"]
    assert standby["ansible_ssh_private_key_file"] == f"{tmp_path}/.local/id_ed25519"
    assert (standby["ansible_host"], standby["ansible_port"]) == ("10.80.0.30", 2222)
    assert standby["icupa_region"] == "fra1"
    assert standby["icupa_runtime"]["active_slot"] == "blue"
    assert standby["icupa_runtime"]["images"]["blue"] == f"{IMAGE}@{DIGEST}"


def test_groups_by_role_where_no_host_has_its_name(tmp_path: Path, raw_outputs: dict[str, Any]) -> None:
    for host in raw_outputs["hosts"]:
        name = f"agents-{host['region']}"
        raw_outputs["projects"][name] = raw_outputs["projects"].pop(host["name"])
        host["name"] = name
    found = listed(inventory(tmp_path, raw_outputs, "-e", "stack=test"))
    assert found["primary"]["hosts"] == ["agents-primary"]
    assert found["standby"]["hosts"] == ["agents-fra1"]


def test_runtime_comes_from_the_record_once_there_is_one(tmp_path: Path, raw_outputs: dict[str, Any]) -> None:
    bootstrap_record(open_record(raw_outputs["record"]), parse_outputs("test", raw_outputs), check=False)
    raw_outputs["release"]["digest"] = f"sha256:{'9' * 64}"
    done = inventory(tmp_path, raw_outputs, "-e", "stack=test")
    host = listed(done)["_meta"]["hostvars"]["primary"]
    assert host["icupa_runtime"]["images"]["blue"] == f"{IMAGE}@{DIGEST}"


def test_templates_of_others_are_not_evaluated(tmp_path: Path, raw_outputs: dict[str, Any]) -> None:
    raw_outputs["urls"] = {"odd": "{{ lookup('pipe', 'id') }}"}
    done = inventory(tmp_path, raw_outputs, "-e", "stack=test")
    assert done.stdout.count("__ansible_unsafe") > 10
    assert listed(done)["_meta"]["hostvars"]["primary"]["icupa_urls"]["odd"].startswith("{{")


@pytest.mark.parametrize(
    ("outputs", "arguments", "message"),
    [
        (
            "{}",
            ["-e", "stack=test"],
            "stack test has no outputs yet: run `pulumi up -s test` (for local: `make up`)",
        ),
        ("not json", ["-e", "stack=test"], "outputs of stack test can't be read"),
        ("{}", [], "no stack named: add `-e stack=<name>` or set ICUPA_STACK"),
        ('{"hosts": []}', ["-e", "stack=test"], "outputs aren't those of this program"),
    ],
)
def test_says_what_to_do(tmp_path: Path, outputs: str, arguments: list[str], message: str) -> None:
    done = inventory(tmp_path, outputs, *arguments)
    assert done.returncode != 0
    assert message in done.stderr


def test_stack_may_come_from_the_environment(tmp_path: Path, raw_outputs: dict[str, Any]) -> None:
    done = inventory(tmp_path, raw_outputs, ICUPA_STACK="test")
    assert listed(done)["_meta"]["hostvars"]["primary"]["icupa_stack"] == "test"


def fake_pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_asks_pulumi_for_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_outputs: dict[str, Any]
) -> None:
    (tmp_path / "outputs.json").write_text(json.dumps(raw_outputs))
    fake_pulumi(tmp_path, monkeypatch, f'echo "$@" >{tmp_path}/asked; cat {tmp_path}/outputs.json')
    assert read_outputs("test").environment == "test"
    assert (tmp_path / "asked").read_text() == "stack output --json --non-interactive -s test\n"


def test_imports_what_procedures_need_while_pulumi_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = load_plugin("inventory", "stack")
    assert [import_module(name).__name__ for name in plugin.FORETOLD] == list(plugin.FORETOLD)
    asked, done = threading.Event(), threading.Event()
    imported: list[str] = []

    def importing(name: str) -> None:
        assert asked.wait(10)
        imported.append(name)
        if len(imported) == len(plugin.FORETOLD):
            done.set()

    def asking(stack: str, file: Path | None) -> str:
        asked.set()
        assert done.wait(10)
        return stack

    monkeypatch.setattr(plugin, "import_module", importing)
    monkeypatch.setattr(plugin, "read_outputs", asking)
    assert plugin.outputs_of("test", None) == "test"
    assert imported == list(plugin.FORETOLD)


def test_names_the_command_for_an_absent_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(tmp_path, monkeypatch, "echo \"error: no stack named 'test' found\" >&2; exit 255")
    with pytest.raises(
        StackError, match=r"no stack named 'test': run `pulumi up -s test` \(for local: `make up`\)"
    ):
        read_outputs("test")


def test_repeats_other_errors_of_pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(tmp_path, monkeypatch, "echo 'error: backend on fire' >&2; exit 255")
    with pytest.raises(StackError, match="backend on fire"):
        read_outputs("test")


def test_lists_everything_wrong(raw_outputs: dict[str, Any]) -> None:
    del raw_outputs["domain"]
    raw_outputs["hosts"][0]["role"] = "spare"
    with pytest.raises(StackError, match=r"(?s)domain.*hosts\.0\.role"):
        parse_outputs("test", raw_outputs)


def test_refuses_a_host_without_a_project(raw_outputs: dict[str, Any]) -> None:
    del raw_outputs["projects"]["standby"]
    with pytest.raises(StackError, match="no rendered project of host 'standby'"):
        parse_outputs("test", raw_outputs).project("standby")
