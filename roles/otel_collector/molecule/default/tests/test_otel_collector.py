"""The collector as Compose runs it."""

from __future__ import annotations

import json

from testinfra.host import Host

from tests.molecule.machine import Machine


def test_the_collector_is_healthy_and_has_its_endpoint(host: Host) -> None:
    machine = Machine.of(host)
    (found,) = json.loads(machine.shell("docker inspect agents-service-otel-collector-1"))
    assert found["State"]["Health"]["Status"] == "healthy"
    assert "OTLP_EXPORTER_ENDPOINT=https://traces.molecule.test:4318" in found["Config"]["Env"]


def test_its_configuration_was_checked_before_it_was_written(host: Host) -> None:
    journal = Machine.of(host).shell("journalctl --no-pager --output cat _COMM=python3")
    assert "ansible-project_files" in journal
