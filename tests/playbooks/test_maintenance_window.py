"""A whole window: the playbook with its own actions and the real record, against a host that is made up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from infra.config.load import load_file
from infra.paths import REPOSITORY
from infra.record import Maintenance
from infra.record.model import now
from infra.runtimes.compose import render
from infra.services.context import Context
from infra.services.topology import topology
from tests.controller import Controller, outputs

PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "maintenance.yml"
DIGEST = f"sha256:{'1' * 64}"
OTHER = f"sha256:{'2' * 64}"
AT = (now() - timedelta(minutes=5)).replace(second=0, microsecond=0)
DOUBLE = '''
"""Says that it was called, and on what; fails where it is told to."""
import os
from ansible.plugins.action import ActionBase

DIGEST = os.environ["DOUBLE_DIGEST"]
RELEASE = {"image": "registry/agents", "digest": DIGEST, "reference": f"registry/agents@{DIGEST}",
           "git_sha": "abc1234", "schema_revision": "0001", "verified": "signature", "local": True}
RESULTS = {
    "backup": {"ansible_facts": {"icupa_backup": {"id": "made-up"}}},
    "release_images": {"ansible_facts": {"icupa_release_images": []}},
    "release_check": {"release": RELEASE},
    "project_files": {"services": {}, "idle": [], "images": [], "project_name": "agents-service"},
    "compose_project": {"reasons": []},
    "release_look": {"ready": True, "ansible_facts": {"icupa_release_images": []}},
    "release_evidence": {"evidence": {}},
}

class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        name = self._task.action
        with open(os.environ["DOUBLE_LOG"], "a") as log:
            runtime = task_vars.get("icupa_runtime", {}).get("maintenance")
            log.write(f"{name} {self._task.args.get('command', '')}{'on' if runtime else ''}\\n")
        result.update(changed=False, **RESULTS.get(name, {}))
        if name == os.environ.get("DOUBLE_FAILS"):
            result.update(failed=True, msg=f"{name} broke")
        return result
'''
DOUBLED = (
    *("backup", "smoke", "watch", "project_files", "service_answers", "compose_project"),
    *("release_images", "release_check", "release_schema", "release_command"),
    *("release_look", "release_evidence"),
)


class Stand(Controller):
    """A controller whose one host is a double."""

    def __init__(self, home: Path) -> None:
        raw = outputs({"url": f"file://{home}/record"})
        stack = load_file("local")
        machine = stack.hosts.machines[0]
        services = topology(Context("local", stack, machine.region, machine.role, ("-----TRUST-----",)))
        raw["projects"] = {
            "primary": render(services, {n: f"registry/{n}@{DIGEST}" for n in services.images})
        }
        actions = home / "actions"
        actions.mkdir()
        for name in DOUBLED:
            (actions / f"{name}.py").write_text(DOUBLE)
        environment = {
            "ANSIBLE_ACTION_PLUGINS": f"{actions}:{REPOSITORY}/ansible/plugins/action",
            "DOUBLE_LOG": str(home / "log"),
            "DOUBLE_DIGEST": DIGEST,
        }
        super().__init__(home, raw, environment)
        self.bootstrap()

    def window(self, *options: str, fails: str = "", digest: str = DIGEST) -> tuple[int, str]:
        """Exit code and text of a run."""
        (self.home / "log").write_text("")
        local = ("-e", "ansible_connection=local", "-e", "ansible_become=false")
        asked = ("-e", f"at={AT:%Y-%m-%dT%H:%MZ}", "-e", "why=drill", "-e", "short_notice=drill")
        told = {"DOUBLE_FAILS": fails, "DOUBLE_DIGEST": digest}
        done = self.play(PLAYBOOK, *local, *asked, *options, environment=told)
        return done.returncode, " ".join(done.stdout.split())[-4000:]

    @property
    def calls(self) -> Sequence[str]:
        """What was asked of the host and of the outside, in order; `on` while maintenance was."""
        return [line.strip() for line in (self.home / "log").read_text().splitlines()]

    @property
    def maintenance(self) -> Maintenance:
        """What the record says."""
        return self.record.state().maintenance


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_the_order_of_a_window(stand: Stand) -> None:
    code, said = stand.window()
    assert code == 0, said
    assert "maintenance is complete" in said
    assert stand.maintenance == Maintenance(completed=AT)
    assert stand.calls == [
        "backup",
        "project_files on",
        "service_answers on",
        "release_command smokeon",
        "smoke on",
        "project_files",
        "service_answers",
        "smoke",
        "watch",
    ]


def test_a_release_goes_the_way_of_a_deploy_behind_the_answer(stand: Stand) -> None:
    code, said = stand.window("-e", "release=abc1234")
    assert code == 0, said
    asked = [call.split()[0] for call in stand.calls]
    assert asked.index("release_check") < asked.index("release_schema") < asked.index("watch")
    assert stand.record.state().release.digest == DIGEST
    assert stand.maintenance == Maintenance(completed=AT)


@pytest.mark.parametrize(
    ("fails", "options", "enabled", "done", "next_calls"),
    [
        ("backup", (), False, (), "backup"),
        ("service_answers", (), True, ("backup", "on"), "project_files on"),
        ("release_schema", ("-e", "release=abc1234"), True, ("backup", "on", "system"), "project_files on"),
        ("release_command", (), True, ("backup", "on", "system", "release"), "project_files on"),
        ("watch", (), False, ("backup", "on", "system", "release", "verify", "off"), "project_files"),
    ],
)
def test_what_fails_is_where_the_same_command_goes_on(  # noqa: PLR0917 - a table
    stand: Stand, fails: str, options: tuple[str, ...], enabled: bool, done: tuple[str, ...], next_calls: str
) -> None:
    code, said = stand.window(*options, fails=fails)
    assert code == 2, said
    assert f"{fails} broke" in said
    assert ("maintenance is ON" in said) is ("on" in done)
    found = stand.maintenance
    assert found.window is not None
    assert (found.enabled, found.window.done) == (enabled, done)
    assert stand.record.state().lock is None

    code, said = stand.window(*options)
    assert code == 0, said
    assert stand.calls[0] == next_calls
    assert ("maintenance was on already, since" in said) is enabled
    assert stand.maintenance == Maintenance(completed=AT)


def test_a_release_that_is_undone_leaves_maintenance_on_and_says_so(stand: Stand) -> None:
    code, said = stand.window("-e", "release=bad", fails="release_command", digest=OTHER)
    assert code == 10, said
    assert "MAINTENANCE IS STILL ON" in said
    assert "turn it off with -e mode=off" in said
    assert stand.maintenance.enabled
    assert stand.record.state().release.digest == DIGEST
    assert "watch" not in " ".join(stand.calls)
