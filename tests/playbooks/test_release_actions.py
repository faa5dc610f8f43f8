"""The actions as playbooks use them: from the images of a host to a verdict on its schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.paths import REPOSITORY
from infra.release.model import SCHEMA_LABEL
from tests.controller import Controller, outputs

PLAYBOOK = Path(__file__).parent / "releases.yml"
ENGINE = REPOSITORY / "tests" / "integration" / "release" / "engine.py"
IMAGE = "registry.local.icupa.dev/icupa/agents-service"
GOOD, LOOSE = (f"sha256:{digit * 64}" for digit in "13")
HERE = ("-e", "ansible_connection=local", "-e", "ansible_become=false")


class Host:
    """A host on this machine, whose engine has some images and answers commands with a plan."""

    def __init__(self, home: Path) -> None:
        self.home = home
        tools = home / "bin"
        tools.mkdir()
        for name in ("docker", "systemctl", "systemd-run"):
            (tools / name).write_text(f"#!{sys.executable}\n{ENGINE.read_text()}")
            (tools / name).chmod(0o755)
        self.controller = Controller(home, outputs({"url": f"file://{home}/record"}))
        self.controller.environment["PATH"] = f"{tools}:{self.controller.environment['PATH']}"
        self.controller.bootstrap()

    def run(
        self, plan: dict[str, Any], *options: str, labelled: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`labelled`: images say which schema they need."""
        images = [
            {
                "Id": digest,
                "RepoDigests": [f"{IMAGE}@{digest}"],
                "RepoTags": [],
                "Config": {"Labels": {SCHEMA_LABEL: "0001"} if labelled else {}},
            }
            for digest in (GOOD, LOOSE)
        ]
        state = {"images": images, "containers": [], "asked": [], "script": f"print({json.dumps(plan)!r})"}
        (self.home / "state.json").write_text(json.dumps(state))
        return self.controller.play(PLAYBOOK, *HERE, *options)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "state.json").read_text())
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def plan(*pending: dict[str, Any]) -> dict[str, Any]:
    return {"needs": "0001", "at": "0001", "serves": ["0001"], "pending": pending, "problem": ""}


def test_a_release_on_the_host_needs_nobody_else(host: Host) -> None:
    done = host.run(plan(), "-e", f"release={GOOD}")
    assert done.returncode == 0, done.stdout
    for line in (
        "ready: True, runs: blue",
        "release sha256:111111111111 of commit abc1234: verified earlier, says the record",
        "primary: would remove the image of an old release, sha256:333333333333",
        "primary: the schema serves revision 0001 already",
    ):
        assert line in done.stdout
    runs = [asked for asked in host.state["asked"] if asked[0] == "compose"]
    assert [asked[-3:] for asked in runs] == [
        ["migrate-green", "migrate", "--plan"],
        ["agents-blue", "flags", "list"],
    ]
    environment = host.state["environment"]
    assert environment["AGENTS_IMAGE_BLUE"] == f"{IMAGE}@{GOOD}"
    assert len(host.state["images"]) == 2, "a dry run removed an image"


def test_a_schema_that_can_not_serve_it_stops_the_play(host: Host) -> None:
    other = {**plan(), "problem": "the schema is at revision 0009"}
    done = host.run(other, "-e", f"release={GOOD}")
    assert done.returncode != 0
    assert "must not run on the database of primary:" in done.stdout
    assert "the schema is at revision 0009" in done.stdout
    assert not [asked for asked in host.state["asked"] if "flags" in asked]


def test_a_dry_run_asks_for_the_plan_too(host: Host) -> None:
    done = host.run(plan(), "-e", f"release={GOOD}", "--check")
    assert done.returncode == 0, done.stdout
    assert "primary: the schema serves revision 0001 already" in done.stdout
    assert host.controller.record.last_event() == 1, "a dry run writes nothing"


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["run", "dry run"])
def test_what_serves_and_is_ready_needs_the_same_schema(host: Host, check: tuple[str, ...]) -> None:
    no = {**plan(), "problem": "nobody should have asked"}
    done = host.run(no, "-e", f"release={GOOD}", "-e", "serving_ready=true", *check)
    assert done.returncode == 0, done.stdout
    assert "primary: the schema serves revision 0001 already" in done.stdout
    assert not [asked for asked in host.state["asked"] if "--plan" in asked]


def test_what_does_not_say_which_schema_it_needs_is_asked(host: Host) -> None:
    other = {**plan(), "problem": "the schema is at revision 0009"}
    done = host.run(other, "-e", f"release={GOOD}", "-e", "serving_ready=true", labelled=False)
    assert done.returncode != 0, done.stdout
    assert "the schema is at revision 0009" in done.stdout


def test_a_host_that_is_not_what_the_stack_says_is_not_moved(host: Host) -> None:
    services = json.dumps({"services": {"web": {"image": "registry/web@sha256:1"}}})
    done = host.run(plan(), "-e", f"release={GOOD}", "-e", services)
    assert done.returncode != 0, done.stdout
    assert "primary is not what stack and record say: web has no container" in done.stdout
    assert host.controller.record.last_event() == 1, "it was refused before anything began"
