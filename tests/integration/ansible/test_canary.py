"""Values of secrets reach their file and nothing else, at the highest verbosity (SEC-4)."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.ansible.conftest import PLUGINS

CANARY = 'canary-$5-that\'s "quoted"-4f1c'
SECRET = "redis-password"
FOREIGN = ("ANSIBLE_", "ICUPA_", "SOPS_", "XDG_")
PLAY = """\
- hosts: localhost
  gather_facts: false
  vars:
    icupa_stack: local
    icupa_secretstore: {{driver: sops}}
    icupa_record: {{url: "file://~/.local/state/icupa/local/record"}}
  tasks:
    - name: Write
      project_files:
        name: canary
        root: "{root}"
        owner: {{uid: {uid}, gid: {gid}}}
        files: "{{{{ files }}}}"
      register: written
    - name: Show all that is known of it
      ansible.builtin.debug:
        var: written
"""


class Controller:
    """A controller with a home, a store and an inventory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "opt"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": str(PLUGINS.parents[1]),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LIBRARY": str(PLUGINS / "modules"),
            "ANSIBLE_MODULE_UTILS": str(PLUGINS / "module_utils"),
            "ANSIBLE_ACTION_PLUGINS": str(PLUGINS / "action"),
        }

    def run(self, *command: str, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**self.environment, **more},
            input=given,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def play(self, content: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        files = [{"path": "x.env", "content": content, "mode": "0600"}]
        (self.home / "play.yml").write_text(PLAY.format(root=self.root, uid=os.getuid(), gid=os.getgid()))
        extra = json.dumps({"files": files})
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", "-e", extra, *arguments]
        return self.run(*command, **more)


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    made = Controller(tmp_path_factory.mktemp("home"))
    prepare = made.run(sys.executable, "-m", "infra.secretstore", "prepare", "--stack", "local")
    assert prepare.returncode == 0, prepare.stderr
    put = made.run(sys.executable, "-m", "infra.secretstore", "set", SECRET, "--stack", "local", given=CANARY)
    assert put.returncode == 0, put.stderr
    return made


def forms() -> list[str]:
    """The value as it may be found: as it is, in JSON, in base64 at each offset."""
    encoded = [base64.b64encode(b"x" * offset + CANARY.encode()).decode()[4:-4] for offset in range(3)]
    return [CANARY, json.dumps(CANARY)[1:-1], *encoded]


def test_a_value_is_in_its_file_only(controller: Controller) -> None:
    done = controller.play(f"KEY=${{secret:{SECRET}}}\n", "-vvvvv", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (controller.root / "x.env").read_text() == f"KEY={CANARY}\n"
    said = done.stdout + done.stderr
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in said
    assert "(hidden, changed)" in said
    assert [form for form in forms() if form in said] == []
    left = [path for path in (controller.home / ".ansible").rglob("*") if path.is_file()]
    assert [path for path in left if CANARY.encode() in path.read_bytes()] == []


def test_a_transfer_that_would_stay_on_the_host_is_refused(controller: Controller) -> None:
    done = controller.play("A=1\n", ANSIBLE_KEEP_REMOTE_FILES="1")
    assert done.returncode != 0
    assert "ANSIBLE_KEEP_REMOTE_FILES would leave secrets on the host" in done.stdout + done.stderr


def test_a_secret_without_a_value_is_named(controller: Controller) -> None:
    done = controller.play("A=${secret:no-such-secret}\n")
    assert done.returncode != 0
    assert "no secret is called 'no-such-secret'" in done.stdout + done.stderr
