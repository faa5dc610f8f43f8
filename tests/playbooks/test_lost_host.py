"""A host that does not answer any more in the middle of a move: the run goes on to its end and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.config.load import load_file
from infra.procedures.moves import Step, advance
from infra.runtimes.compose import render
from infra.services.context import Context
from infra.services.topology import topology
from tests.controller import Controller, outputs

LOST = Path(__file__).resolve().parent / "lost.yml"
NEW = f"sha256:{'2' * 64}"


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    """One whose host is at a port where nobody listens, and whose record says that a move began there."""
    stack = load_file("local")
    machine = stack.hosts.machines[0]
    services = topology(Context("local", stack, machine.region, machine.role, ()))
    raw = outputs({"url": f"file://{tmp_path}/record"})
    raw["projects"] = {"primary": render(services, {name: f"x/{name}@{NEW}" for name in services.images})}
    made = Controller(tmp_path, raw)
    made.bootstrap()
    with made.record.lease("deploy") as lease:
        lease.update("deploy.start", lambda state: advance(state, "primary", Step.START, NEW))
    return made


def test_a_host_that_is_lost_makes_the_end_uncertain(controller: Controller) -> None:
    done = controller.play(LOST, "-e", json.dumps({"digest": NEW, "ansible_ssh_retries": 0}))
    assert done.returncode == 12, done.stdout
    said = " ".join(done.stdout.split())
    assert "deploy: UNCERTAIN" in said
    assert "lost primary; Go on only with a host that answered: primary: primary does not answer" in said
    assert "run the site play" in said
    record = controller.record
    (failed,) = [event for event in record.events() if event.action == "deploy.failed"]
    assert failed.details["evidence"], "that nothing could be had is evidence too"
    assert record.state().lock is None
