"""The docker stand-in serves Pulumi against the engine of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from infra.providers.plugins import STAND_INS, executable_name, write_executable
from tests.molecule.images import base_image
from tests.waiting import eventually

pytestmark = pytest.mark.system

PREFIX = "icupa-test-provider"
PROGRAM = """
import json
import pulumi
import pulumi_docker as docker

given = json.load(open("given.json"))
network = docker.Network(
    "net", name="{prefix}-net", ipam_configs=[docker.NetworkIpamConfigArgs(subnet="10.94.0.0/24")]
)
other = docker.Network("other", name="{prefix}-other", internal=True)
volume = docker.Volume("vol", name="{prefix}-vol")
container = docker.Container(
    "box",
    name="{prefix}-box",
    image=given["image"],
    command=["sleep", "infinity"],
    envs=given["envs"] + [pulumi.Output.secret("PLANTED=value-that-state-must-not-hold")],
    networks_advanced=[
        docker.ContainerNetworksAdvancedArgs(
            name=network.name, ipv4_address="10.94.0.10", aliases=["boxy"]
        ),
        docker.ContainerNetworksAdvancedArgs(name=other.name),
    ],
    mounts=[docker.ContainerMountArgs(target="/data", type="volume", source=volume.name)],
    uploads=[docker.ContainerUploadArgs(file="/etc/uploaded", content="hello", permissions="0600")],
    labels=[docker.ContainerLabelArgs(label="dev.icupa.test", value="kept")],
    healthcheck=docker.ContainerHealthcheckArgs(
        tests=["CMD", "test", "-f", given["healthy_if"]], interval="1s", retries=3
    ),
    restart="unless-stopped",
    init=True,
    wait=True,
    wait_timeout=given["wait_timeout"],
)
pulumi.export("id", container.id)
pulumi.export("address", container.network_datas[0].ip_address)
""".replace("{prefix}", PREFIX)


class Stack:
    """A Pulumi stack in a directory of its own, with the stand-in installed as the plugin."""

    def __init__(self, home: Path, image: str) -> None:
        self.program = home / "program"
        self.program.mkdir()
        (home / "state").mkdir()
        (self.program / "Pulumi.yaml").write_text("name: icupa-test-provider\nruntime: python\n")
        (self.program / "__main__.py").write_text(PROGRAM)
        self.state = home / "state"
        self.environment = {
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{self.state}",
            "PULUMI_HOME": str(home / "pulumi"),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        self.given: dict[str, Any] = {
            "image": image,
            "envs": ["A=1"],
            "healthy_if": "/etc/uploaded",
            "wait_timeout": 60,
        }
        executable = home / executable_name("docker")
        write_executable("docker", executable)
        archive = home / "docker.tar.gz"
        with tarfile.open(archive, "w:gz") as opened:
            opened.add(executable, executable.name)
        self.run("plugin", "install", "resource", "docker", STAND_INS["docker"], "--file", str(archive))
        self.run("stack", "init", "test")

    def command(self, *arguments: str) -> list[str]:
        (self.program / "given.json").write_text(json.dumps(self.given))
        return ["pulumi", *arguments, "--non-interactive"]

    def attempt(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.program,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def run(self, *arguments: str, **variables: str) -> str:
        done = self.attempt(*arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *options: str) -> str:
        return self.run("up", "--stack", "test", "--yes", "--skip-preview", *options)

    def output(self, name: str) -> str:
        return self.run("stack", "output", name, "--stack", "test").strip()


@pytest.fixture(scope="module")
def engine() -> docker.DockerClient:
    return docker.from_env(timeout=120)


@pytest.fixture
def stack(tmp_path: Path, engine: docker.DockerClient) -> Iterator[Stack]:
    remove_all(engine)
    yield Stack(tmp_path, base_image(engine))
    remove_all(engine)


def remove_all(engine: docker.DockerClient) -> None:
    for container in engine.containers.list(all=True, filters={"name": PREFIX}):
        container.remove(force=True)
    for network in engine.networks.list(names=[PREFIX]):
        network.remove()
    for volume in engine.volumes.list(filters={"name": PREFIX}):
        volume.remove()


def facts(engine: docker.DockerClient) -> Mapping[str, Any]:
    found: Mapping[str, Any] = engine.containers.get(f"{PREFIX}-box").attrs
    return found


def test_makes_keeps_replaces_and_removes(stack: Stack, engine: docker.DockerClient) -> None:
    preview = stack.run("preview", "--stack", "test", "--json", DOCKER_HOST="tcp://127.0.0.1:1")
    assert json.loads(preview)["changeSummary"] == {"create": 5}

    stack.up()
    made = facts(engine)
    assert stack.output("id") == made["Id"]
    assert stack.output("address") == "10.94.0.10"
    networks = made["NetworkSettings"]["Networks"]
    assert set(networks) == {f"{PREFIX}-net", f"{PREFIX}-other"}
    assert "boxy" in networks[f"{PREFIX}-net"]["Aliases"]
    assert made["State"]["Health"]["Status"] == "healthy"
    assert made["Config"]["Labels"]["dev.icupa.test"] == "kept"
    assert made["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    box = engine.containers.get(made["Id"])
    assert box.exec_run(["cat", "/etc/uploaded"]).output == b"hello"
    assert box.exec_run(["stat", "-c", "%a", "/etc/uploaded"]).output == b"600\n"
    assert box.exec_run(["touch", "/data/kept"]).exit_code == 0

    stack.up("--expect-no-changes")
    assert facts(engine)["Id"] == made["Id"]

    stack.given["envs"] = ["A=2"]
    stack.up()
    replaced = facts(engine)
    assert replaced["Id"] != made["Id"]
    assert "A=2" in replaced["Config"]["Env"]
    assert engine.containers.get(replaced["Id"]).exec_run(["test", "-f", "/data/kept"]).exit_code == 0

    states = [file.read_text() for file in stack.state.rglob("*.json")]
    assert any(f"{PREFIX}-box" in text for text in states)
    assert not [text for text in states if "value-that-state-must-not-hold" in text]

    stack.run("destroy", "--stack", "test", "--yes", "--skip-preview")
    assert not engine.containers.list(all=True, filters={"name": PREFIX})
    assert not engine.networks.list(names=[PREFIX])
    assert not engine.volumes.list(filters={"name": PREFIX})


def test_a_refresh_finds_what_was_changed_by_hand(stack: Stack, engine: docker.DockerClient) -> None:
    stack.up()
    first = facts(engine)["Id"]

    engine.containers.get(first).stop(timeout=0)
    stack.up("--refresh")
    assert (facts(engine)["Id"], facts(engine)["State"]["Running"]) == (first, True)

    engine.networks.get(f"{PREFIX}-other").disconnect(first)
    stack.up("--refresh")
    second = facts(engine)
    assert second["Id"] != first
    assert f"{PREFIX}-other" in second["NetworkSettings"]["Networks"]

    engine.containers.get(second["Id"]).remove(force=True)
    stack.up("--refresh")
    assert facts(engine)["Id"] not in {first, second["Id"]}
    stack.up("--refresh", "--expect-no-changes")


def test_what_does_not_become_healthy_is_an_error_and_leaves_nothing(
    stack: Stack, engine: docker.DockerClient
) -> None:
    stack.given |= {"healthy_if": "/nowhere", "wait_timeout": 2}
    failed = stack.attempt("up", "--stack", "test", "--yes", "--skip-preview")
    assert failed.returncode != 0
    assert f"container {PREFIX}-box is not healthy after 2 s" in failed.stdout
    assert not engine.containers.list(all=True, filters={"name": PREFIX})
    stack.given |= {"healthy_if": "/etc/uploaded", "wait_timeout": 60}
    stack.up()
    assert facts(engine)["State"]["Health"]["Status"] == "healthy"


def test_a_killed_engine_ends_its_provider_and_a_name_in_use_is_told(
    stack: Stack, engine: docker.DockerClient
) -> None:
    stack.given["healthy_if"] = "/nowhere"
    command = stack.command("up", "--stack", "test", "--yes", "--skip-preview")
    process = subprocess.Popen(
        command,
        cwd=stack.program,
        env=stack.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: is_running(engine), "the container runs", 30)
        providers = [pid for pid in children(process.pid) if "infra.providers.plugins" in command_line(pid)]
        assert providers
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    eventually(lambda: not [pid for pid in providers if command_line(pid)], "the providers end", 30)

    stack.run("cancel", "--stack", "test", "--yes")
    refused = stack.attempt("up", "--stack", "test", "--yes", "--skip-preview")
    assert refused.returncode != 0
    assert f'"/{PREFIX}-box" is already in use' in refused.stdout


def is_running(engine: docker.DockerClient) -> bool:
    try:
        return bool(facts(engine)["State"]["Running"])
    except NotFound:
        return False


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in listed.stdout.split()]
