"""Drivers of hosts: what each registers, and what the inventory gets of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest import MonkeyPatch

from infra import local, paths
from infra.config.load import load_file, validate
from infra.config.model import Stack
from infra.config.trust import MissingFileError, certificates
from infra.hosts import make_hosts
from infra.hosts.cloud_init import cloud_init
from infra.images import BuildSettings
from tests.unit.hosts.conftest import Registered

# The SDK warns of its own deprecated resources when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
Run = Callable[..., Registered]
CONTAINER = "docker:index/container:Container"
DROPLET = "digitalocean:index/droplet:Droplet"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHg0yo0kQvYkq2m2p3b9k7Qm3b0m8mJ6y0bL1v5b8Xy1"


def existing() -> Stack:
    config = yaml.safe_load((paths.REPOSITORY / "stacks" / "Pulumi.production.yaml").read_text())["config"]
    config["icupa:hosts"] = {
        "driver": "existing",
        "user": "admin",
        "machines": [
            {"name": "one", "region": "ams3", "role": "primary", "address": "203.0.113.1", "host_key": KEY},
            {
                "name": "two",
                "region": "fra1",
                "role": "standby",
                "address": "203.0.113.2",
                "port": 2222,
                "host_key": KEY,
            },
        ],
    }
    return validate("production", config)


def outputs(stack: str, configuration: Stack) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [host.outputs() for host in make_hosts(stack, configuration, BuildSettings(), None)]


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for machine in local.MACHINES:
        directory = paths.mounted_files("local", machine.name)
        directory.mkdir(parents=True)
        (directory / "ssh_host_ed25519_key.pub").write_text(f"{KEY} {machine.name}\n")
    world = paths.mounted_files("local", "world")
    world.mkdir()
    (world / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    return tmp_path


def test_machine_in_a_container_is_what_systemd_and_docker_need(run: Run, prepared: Path) -> None:
    registered = run(outputs("local", load_file("local")), preview=False)
    containers = registered.resources[CONTAINER]
    assert set(containers) == {"primary", "standby"}
    for machine in local.MACHINES:
        container = containers[machine.name]
        assert container["name"] == machine.container
        assert container["capabilities"] == {"adds": ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]}
        assert "privileged" not in container
        assert container["securityOpts"] == ["seccomp=unconfined", "apparmor=unconfined"]
        assert container["cgroupnsMode"] == "private"
        assert container["stopSignal"] == "SIGRTMIN+3"
        assert container["restart"] == "unless-stopped"
        assert container["memory"] == 4096
        assert container["dns"] == ["10.80.0.11"]
        networks = {item["name"]: item.get("ipv4Address") for item in container["networksAdvanced"]}
        assert networks == {local.NETWORK: str(machine.address), machine.container: None}
        mounts = {item["containerPath"]: item for item in container["volumes"]}
        assert mounts["/var/lib/docker"]["volumeName"] == f"{machine.container}-docker"
        identity = mounts["/etc/icupa/machine"]
        assert identity["hostPath"] == str(paths.mounted_files("local", machine.name))
        assert identity["readOnly"] is True
        labels = {item["label"]: item["value"] for item in container["labels"]}
        assert labels["dev.icupa.image"] == "sha256:machine"


def test_inventory_gets_address_and_pinned_key_of_containers(run: Run, prepared: Path) -> None:
    registered = run(outputs("local", load_file("local")), preview=False)
    assert [host["name"] for host in registered.result] == ["primary", "standby"]
    standby = registered.result[1]
    assert standby == {
        "name": "standby",
        "region": "fra1",
        "role": "standby",
        "address": "10.80.0.30",
        "user": "ops",
        "port": 22,
        "host_key": f"{KEY} standby",
        "become": True,
        "private_key_file": str(prepared / ".local/state/icupa/local/files/operator/id_ed25519"),
    }


def test_preview_needs_no_preparation_but_creation_does(
    run: Run, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stack = load_file("local")
    assert certificates("local", stack, preview=True) == ("(made by preparation: world/ca.pem)",)
    with pytest.raises(MissingFileError, match=r"python -m infra\.secretstore prepare --stack local"):
        certificates("local", stack, preview=False)
    registered = run(outputs("local", stack), preview=True)
    assert set(registered.resources[CONTAINER]) == {"primary", "standby"}


def test_droplets_are_behind_a_firewall_with_a_reserved_address(run: Run) -> None:
    registered = run(outputs("production", load_file("production")), stack="production")
    droplets = registered.resources[DROPLET]
    assert {item["region"] for item in droplets.values()} == {"ams3", "fra1"}
    for droplet in droplets.values():
        assert droplet["size"] == "s-2vcpu-4gb"
        assert droplet["image"] == "ubuntu-24-04-x64"
        assert droplet["monitoring"] is True
        assert set(droplet["tags"]) >= {"icupa", "icupa-production"}
    networks = registered.resources["digitalocean:index/vpc:Vpc"]
    assert len({network["ipRange"] for network in networks.values()}) == len(networks) == 2
    firewalls = registered.resources["digitalocean:index/firewall:Firewall"]
    assert len(firewalls) == 2
    for firewall in firewalls.values():
        opened = {
            (rule["protocol"], rule.get("portRange")): rule["sourceAddresses"]
            for rule in firewall["inboundRules"]
        }
        assert set(opened) == {("tcp", "22"), ("tcp", "80"), ("tcp", "443"), ("icmp", None)}
        assert opened[("tcp", "22")] == ["203.0.113.0/24"]
        assert "0.0.0.0/0" in opened[("tcp", "443")]
    assert [host["address"] for host in registered.result] == ["203.0.113.7", "203.0.113.7"]
    assert all(host["host_key"] == "" and host["user"] == "ops" for host in registered.result)
    assert not any("private_key_file" in host for host in registered.result)


def test_first_boot_makes_the_operator_and_nobody_else() -> None:
    text = cloud_init("ops", [KEY])
    assert text.startswith("#cloud-config\n")
    document = yaml.safe_load(text)
    assert [user["name"] for user in document["users"]] == ["ops"]
    assert document["users"][0]["ssh_authorized_keys"] == [KEY]
    assert document["users"][0]["lock_passwd"] is True
    assert document["disable_root"] is True
    assert document["ssh_pwauth"] is False


def test_existing_machines_are_taken_as_they_are(run: Run) -> None:
    registered = run(outputs("production", existing()), stack="production")
    assert registered.resources == {}
    assert [(host["address"], host["port"], host["user"]) for host in registered.result] == [
        ("203.0.113.1", 22, "admin"),
        ("203.0.113.2", 2222, "admin"),
    ]
    assert {host["host_key"] for host in registered.result} == {KEY}


def test_runner_awaits_what_it_is_given(run: Run) -> None:
    def failing() -> Any:
        raise RuntimeError("seen")

    with pytest.raises(RuntimeError, match="seen"):
        run(failing)
