"""Where nothing differs nothing is done; a check of a bare machine ends well (issue 3, acceptance 5, 7)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from infra import local, paths
from infra.hosts.docker import IDENTITY_PATH
from tests.molecule import images
from tests.molecule.machine import Machine
from tests.running import PULUMI_UP, STACK, outputs_document, play, succeeds
from tests.waiting import eventually

pytestmark = pytest.mark.system


def test_a_second_program_run_changes_nothing() -> None:
    succeeds([*PULUMI_UP, "--expect-no-changes"])


def test_a_second_site_play_changes_nothing_on_both_hosts() -> None:
    played = play()
    assert played.hosts == {place.name for place in local.MACHINES}
    assert played.changes == []
    for host, counts in played.recap.items():
        assert counts["changed"] == counts["failures"] == counts["unreachable"] == 0, host
        assert counts["ok"] > 0, host


@pytest.fixture
def bare() -> Iterator[Container]:
    """A machine as a cloud's image brings it, with the keys of the stack's primary."""
    client = docker.from_env()
    (image,) = images.build("bare")
    name = f"icupa-check-{uuid.uuid4().hex[:8]}"
    identity = paths.mounted_files(STACK, local.PRIMARY.name)
    network = client.networks.create(name)
    try:
        container = client.containers.run(
            image,
            name=name,
            hostname=local.PRIMARY.name,
            network=name,
            cap_add=["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            cgroupns="private",
            volumes={str(identity): {"bind": IDENTITY_PATH, "mode": "ro"}},
            detach=True,
        )
        try:
            yield container
        finally:
            container.remove(force=True, v=True)
    finally:
        network.remove()
        client.close()


def installed(on: Machine) -> str:
    """What a play could have changed: packages, accounts, units, files of system and project."""
    return on.shell(
        "dpkg-query --show; getent passwd; getent group; systemctl list-unit-files --no-pager --no-legend"
        " --state=enabled,disabled,masked;"
        " ls -la /opt; find /etc -xdev -type f ! -name '*.cache' -exec sha256sum {} + | sort -k2"
    )


def test_a_check_of_a_bare_machine_ends_without_error(bare: Container, tmp_path: Path) -> None:
    on = Machine(str(bare.name))
    eventually(
        lambda: on.run("systemctl", "is-system-running").output.strip() == "running", "the machine is up"
    )
    outputs = outputs_document()
    (host,) = [host for host in outputs["hosts"] if host["name"] == local.PRIMARY.name]
    outputs["hosts"] = [{**host, "address": on.address()}]
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps(outputs))
    before = installed(on)
    assert on.run("sh", "-c", "command -v docker").code != 0

    played = play("--check", "--diff", environment={"ICUPA_OUTPUTS_FILE": str(file)})

    assert played.hosts == {local.PRIMARY.name}
    assert played.recap[local.PRIMARY.name]["changed"] > 0
    assert installed(on) == before
