"""What is reachable from outside, with the engine's published ports, after its restart and after a reboot."""

from __future__ import annotations

import pytest

from tests.molecule.machine import Machine
from tests.molecule.outside import Outside
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("engine")
testinfra_hosts = ["icupa-molecule-hardening"]

SERVE = "python3 -m http.server 80"


@pytest.fixture(scope="module")
def engine() -> None:
    machine = Machine("icupa-molecule-hardening")
    machine.container_run("allowed", "--init", "--publish 80:80", "--publish 443:80", command=SERVE)
    machine.container_run("denied", "--init", "--publish 8081:80", "--publish 5432:80", command=SERVE)


def opens(machine: Machine, outside: Outside, port: int) -> None:
    eventually(lambda: outside.reach(machine, port) == "open", f"{port} is open")


def listens(machine: Machine, port: int) -> None:
    url = f"http://127.0.0.1:{port}/"
    eventually(lambda: machine.run("curl", "-sf", url).code == 0, f"the host itself reaches {port}")


def assert_reachable_as_wanted(machine: Machine, outside: Outside) -> None:
    for port in (22, 80, 443):
        opens(machine, outside, port)
    for port in (8081, 5432):
        listens(machine, port)
        assert outside.reach(machine, port) == "silent"


def test_published_ports(machine: Machine, outside: Outside) -> None:
    assert_reachable_as_wanted(machine, outside)


def test_published_ports_after_a_restart_of_the_engine(machine: Machine, outside: Outside) -> None:
    machine.shell("systemctl restart docker")
    assert_reachable_as_wanted(machine, outside)


def test_published_ports_after_a_reboot(machine: Machine, outside: Outside) -> None:
    machine.reboot()
    assert_reachable_as_wanted(machine, outside)


def test_the_firewall_is_what_keeps_published_ports_away(machine: Machine, outside: Outside) -> None:
    machine.shell("nft delete table inet icupa")
    try:
        assert outside.reach(machine, 8081) == "open"
    finally:
        machine.shell("systemctl reload icupa-firewall")
    assert outside.reach(machine, 8081) == "silent"


def test_containers_are_not_reachable_by_their_own_address(machine: Machine, outside: Outside) -> None:
    address = machine.shell("docker inspect --format '{{.NetworkSettings.IPAddress}}' denied")
    assert machine.run("curl", "-sf", f"http://{address}/").code == 0
    done = outside.run("ip", "route", "replace", f"{address}/32", "via", machine.address())
    assert done.code == 0, done.output
    fetch = ("curl", "--silent", "--fail", "--output", "/dev/null", "--max-time", "2", f"http://{address}/")
    assert outside.run(*fetch).code != 0


def test_processes_of_the_host_are_denied_by_default(machine: Machine, outside: Outside) -> None:
    machine.run("systemctl", "stop", "listener")
    machine.shell("systemd-run --unit listener python3 -m http.server 8123")
    eventually(lambda: machine.run("curl", "-sf", "http://127.0.0.1:8123/").code == 0, "it listens")
    assert outside.reach(machine, 8123) == "silent"
    machine.shell("nft insert rule inet icupa input tcp dport 8123 accept")
    assert outside.reach(machine, 8123) == "open"
    machine.shell("systemctl reload icupa-firewall")
    assert outside.reach(machine, 8123) == "silent"


def test_containers_reach_each_other_and_the_outside_but_not_their_host(
    machine: Machine, outside: Outside
) -> None:
    outside.container.reload()
    (network,) = outside.container.attrs["NetworkSettings"]["Networks"].values()
    outside.container.exec_run(["python3", "-m", "http.server", "8200"], detach=True)
    machine.run("docker", "network", "create", "--driver", "bridge", "pair")
    machine.container_run("one", "--network pair")
    machine.container_run("two", "--init", "--network pair", command=SERVE)

    def code(url: str) -> int:
        command = f"docker exec one curl --silent --output /dev/null --max-time 2 {url}"
        return machine.run("sh", "-c", command).code

    eventually(lambda: code("http://two/") == 0, "containers reach each other by name")
    eventually(lambda: code(f"http://{network['IPAddress']}:8200/") == 0, "containers reach the outside")
    gateway = machine.shell("docker network inspect --format '{{(index .IPAM.Config 0).Gateway}}' pair")
    assert code(f"telnet://{gateway}:22") != 0


def test_the_rules_are_there_before_the_network(machine: Machine) -> None:
    order = machine.shell("systemctl show --property=Before --value icupa-firewall.service").split()
    assert {"network-pre.target", "docker.service"} <= set(order)
    assert machine.shell("systemctl is-enabled icupa-firewall") == "enabled"
