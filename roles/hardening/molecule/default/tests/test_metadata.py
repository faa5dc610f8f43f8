"""Metadata services can't be reached, proven against one that listens in a network namespace of its own."""

from __future__ import annotations

import pytest

from tests.molecule.machine import Machine
from tests.waiting import eventually

testinfra_hosts = ["icupa-molecule-hardening"]

ADDRESS, ADDRESS6 = "169.254.169.254", "fd00:ec2::254"
SERVICE = f"""
ip netns list | grep -q metadata || ip netns add metadata
ip link show metadata0 >/dev/null 2>&1 || ip link add metadata0 type veth peer name eth0 netns metadata
inside='nsenter --net=/run/netns/metadata'
echo 0 > /proc/sys/net/ipv6/conf/metadata0/disable_ipv6
$inside sh -c 'echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6'
ip address replace 169.254.169.1/24 dev metadata0
ip -6 address replace fd00:ec2::1/64 dev metadata0 nodad
ip link set metadata0 up
$inside ip link set lo up
$inside ip link set eth0 up
$inside ip address replace {ADDRESS}/24 dev eth0
$inside ip -6 address replace {ADDRESS6}/64 dev eth0 nodad
systemctl is-active --quiet metadata ||
    systemd-run --unit metadata $inside python3 -m http.server 80 --bind ::
"""


@pytest.fixture(autouse=True)
def service(machine: Machine) -> None:
    machine.shell(SERVICE)
    machine.container_run("curious")
    eventually(
        lambda: (
            machine.run("nsenter", "--net=/run/netns/metadata", "curl", "-sf", f"http://{ADDRESS}/").code == 0
        ),
        "the service listens",
    )


def from_container(machine: Machine) -> int:
    fetch = f"docker exec curious curl --silent --fail --output /dev/null --max-time 3 http://{ADDRESS}/"
    return machine.run("sh", "-c", fetch).code


def from_host(machine: Machine, address: str = ADDRESS) -> int:
    url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    return machine.run("curl", "--silent", "--fail", "--output", "/dev/null", "--max-time", "3", url).code


def assert_out_of_reach(machine: Machine) -> None:
    assert from_container(machine) != 0
    assert from_host(machine) != 0
    assert from_host(machine, ADDRESS6) != 0


def test_nobody_reaches_it(machine: Machine) -> None:
    assert_out_of_reach(machine)


def test_without_the_rules_everybody_does(machine: Machine) -> None:
    machine.shell("nft flush chain inet icupa metadata_output; nft flush chain inet icupa metadata_forward")
    try:
        assert from_container(machine) == 0
        assert from_host(machine) == 0
        assert from_host(machine, ADDRESS6) == 0
    finally:
        machine.shell("systemctl reload icupa-firewall")
    assert_out_of_reach(machine)


def test_nobody_reaches_it_after_a_restart_of_the_engine(machine: Machine) -> None:
    machine.shell("systemctl restart docker")
    eventually(lambda: machine.run("docker", "exec", "curious", "true").code == 0, "the container is there")
    assert_out_of_reach(machine)


def test_nobody_reaches_it_after_a_reboot(machine: Machine) -> None:
    machine.reboot()
    machine.shell(SERVICE)
    eventually(
        lambda: (
            machine.run("nsenter", "--net=/run/netns/metadata", "curl", "-sf", f"http://{ADDRESS}/").code == 0
        ),
        "the service listens",
    )
    eventually(lambda: machine.run("docker", "exec", "curious", "true").code == 0, "the container is back")
    assert_out_of_reach(machine)
