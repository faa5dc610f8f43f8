"""What failed is told in the words of hosts and services: no value of a secret comes into the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.secretstore import open_store, sops
from tests.controller import STACK, Controller, outputs
from tests.playbooks.conftest import PLUGINS, TRIAL

VALUE = "xoxb-0123456789"
UNENDED = """
- name: Fail, and leave the end to the callback
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Begin
      operation: {state: begin, operation: trial}
    - name: Break
      ansible.builtin.fail:
        msg: "logged last: dsn=https://{{ value }}@host"
"""


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    identity = tmp_path / "identity"
    identity.write_text(sops.new_identity()[0])
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(identity))
    record = {"url": f"file://{tmp_path}/record"}
    made = Controller(tmp_path, outputs(record), {**PLUGINS, "SOPS_AGE_KEY_FILE": str(identity)})
    made.bootstrap()
    open_store({"driver": "sops"}, STACK, record=record).put("slack-token", VALUE, by="ada")
    return made


def said(controller: Controller) -> str:
    """What the log says of failure and end."""
    events = [event for event in controller.record.events() if event.action in ("trial.failed", "trial.end")]
    return json.dumps([[event.action, event.why, event.details] for event in events])


def test_no_value_is_in_the_event_of_a_failure(controller: Controller) -> None:
    controller.play(TRIAL, "-e", f"region=refused-{VALUE}", "-e", "verdict=failed")
    found = said(controller)
    assert found.count("refused-(secret slack-token): not a name") == 2, found
    assert VALUE not in found


def test_no_value_is_in_the_end_that_the_callback_writes(controller: Controller) -> None:
    playbook = controller.home / "unended.yml"
    playbook.write_text(UNENDED)
    done = controller.play(playbook, "-e", f"value={VALUE}")
    assert done.returncode == 2, done.stdout
    found = said(controller)
    assert "logged last: dsn=https://(secret slack-token)@host" in found
    assert VALUE not in found
    assert VALUE not in done.stdout.rpartition("trial: FAILED")[2]


def test_where_secrets_can_not_be_read_the_words_are_left_out(controller: Controller) -> None:
    (controller.home / "identity").unlink()
    controller.play(TRIAL, "-e", f"region=refused-{VALUE}", "-e", "verdict=failed")
    found = said(controller)
    assert "the words are left out" in found
    assert VALUE not in found


def test_what_a_host_says_at_length_is_cut(controller: Controller) -> None:
    playbook = controller.home / "unended.yml"
    playbook.write_text(UNENDED)
    controller.play(playbook, "-e", f"value={'y' * 20000}")
    assert len(said(controller)) < 6000
