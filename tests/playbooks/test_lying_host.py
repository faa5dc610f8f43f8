"""A host that was broken into is asked: what only the controller knows is not the host's to say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.controller import Controller, outputs
from tests.playbooks.conftest import HERE, PLUGINS

PLAYBOOK = HERE / "lying.yml"
LOCAL = ("-e", "ansible_connection=local", "-e", "ansible_become=false")


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    environment = {
        **PLUGINS,
        "ANSIBLE_LIBRARY": f"{HERE.parents[1]}/ansible/plugins/modules:{HERE}/library",
    }
    made = Controller(tmp_path, outputs({"url": f"file://{tmp_path}/record"}), environment)
    made.bootstrap()
    return made


def play(controller: Controller, said: object, *options: str) -> tuple[int, str]:
    given = json.dumps({"said": json.dumps(said), "target": str(controller.home / "target")})
    done = controller.play(PLAYBOOK, *LOCAL, "-e", given, *options)
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "name", ["icupa_record", "icupa_outputs", "icupa_secretstore", "icupa_project", "agents_stack_project"]
)
def test_a_host_does_not_say_what_only_the_controller_knows(controller: Controller, name: str) -> None:
    code, said = play(controller, {"ansible_facts": {name: {"url": f"file://{controller.home}/other"}}})
    assert code == 2, said
    assert f"primary answers with {name}, which only the controller may say" in said


def test_no_secret_is_written_into_a_file_that_the_host_made_up(controller: Controller) -> None:
    code, said = play(
        controller, {"ansible_facts": {"icupa_domain": "${secret:dns-tsig-key}"}}, "-e", "files=true"
    )
    assert code == 2, said
    assert "primary answers with icupa_domain, which only the controller may say" in said
    assert not (controller.home / "target").exists()


def test_an_honest_host_may_have_facts(controller: Controller) -> None:
    code, said = play(controller, {"ansible_facts": {"ansible_machine": "x", "icupa_release_images": []}})
    assert code == 0, said


@pytest.mark.parametrize("lie", ["ansible_facts", "add_host"])
def test_what_is_asked_for_the_controller_changes_nothing_there(controller: Controller, lie: str) -> None:
    lies = {
        "ansible_facts": {"icupa_rollout": {"host": "evil"}},
        "add_host": {"host_name": "primary", "host_vars": {"icupa_domain": "evil"}, "groups": []},
    }
    _, said = play(controller, {lie: lies[lie]})
    assert "controller has no rollout and agents.local.icupa.dev" in said
