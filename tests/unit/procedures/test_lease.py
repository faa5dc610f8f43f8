"""A task that outlives its controller: it changes nothing more, and keeps no lease alive."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.procedures import heartbeat, lease, operation
from infra.procedures.operation import Operation, ProcedureError
from infra.record import Record, open_record
from tests.unit.procedures.releases import HOSTS, release

STACK = "test"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setenv("HOME", str(tmp_path))
    record = open_record({"url": f"file://{tmp_path}/record"})
    switches = dict.fromkeys(
        (
            "AI_REALTIME_ENABLED",
            "AI_RESPONSES_ENABLED",
            "WHATSAPP_INTEGRATION_ENABLED",
            "FEATURE_AGENT_CHAT",
            "FEATURE_AGENT_VOICE",
            "FEATURE_AGENT_VOUCHERS",
        ),
        True,
    )
    record.bootstrap(release=release("a"), hosts=HOSTS, switches=switches, active_region="here")
    return record


def variables(tmp_path: Path, began: Operation) -> dict[str, Any]:
    return {
        "icupa_stack": STACK,
        "icupa_record": {"url": f"file://{tmp_path}/record"},
        "ansible_facts": {lease.OPERATION: began.model_dump(mode="json")},
    }


def test_a_task_whose_controller_was_killed_changes_nothing_and_renews_nothing(
    record: Record, tmp_path: Path
) -> None:
    controller = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    began = operation.begin(record, "trial", stack=STACK, parameters={}, pid=controller.pid)
    controller.kill()
    controller.wait()
    # What adopts the task lives on: in a container and on a machine it is the first process.
    with pytest.raises(ProcedureError, match=r"controller of trial .* is gone"):
        lease.current(variables(tmp_path, began))
    assert heartbeat.read_status(STACK, began.token) is None


def test_a_task_of_a_living_controller_has_its_heartbeat_started_again(
    record: Record, tmp_path: Path
) -> None:
    said: list[str] = []
    began = operation.begin(record, "trial", stack=STACK, parameters={}, pid=lease.controller_pid())
    assert lease.current(variables(tmp_path, began), said.append).token == began.token
    assert said == ["the heartbeat of the lease had ended, it is started again"]
    status = heartbeat.read_status(STACK, began.token)
    assert status is not None
    assert status.alive
    os.kill(int(status.process.split("/")[2]), signal.SIGTERM)
