"""Records that Pulumi owns: never the public one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi
import pytest
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

from infra.config.load import load_file
from infra.config.model import Role, Stack
from infra.dns.records import Records, RecordsArgs
from infra.hosts.model import Host
from tests.unit.mocked import run_program

# The SDK warns of its own deprecated resources when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
RECORD = "cloudflare:index/dnsRecord:DnsRecord"


class Zone(Mocks):
    """Remembers every record."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.others: list[str] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if args.typ == RECORD:
            self.records[args.name] = dict(args.inputs)
        else:
            self.others.append(args.typ)
        return "1", dict(args.inputs)

    def call(self, args: MockCallArgs) -> Any:
        raise AssertionError(args.token)


def hosts(stack: Stack) -> list[Host]:
    addresses: list[pulumi.Input[str]] = [pulumi.Output.from_input("203.0.113.1"), "203.0.113.2"]
    made = [
        Host(machine.name, machine.region, machine.role, address, "ops", 22, "")
        for machine, address in zip(stack.hosts.machines, addresses, strict=True)
    ]
    assert made[0].role is Role.PRIMARY
    return made


@pytest.fixture
def records() -> Callable[[str], Zone]:
    def made(name: str) -> Zone:
        zone, stack = Zone(), load_file(name)
        run_program(
            zone, lambda: Records("dns", RecordsArgs(stack, hosts(stack))).urn, stack=name, preview=False
        )
        return zone

    return made


def test_regions_have_addresses_and_challenges_are_delegated(records: Callable[[str], Zone]) -> None:
    zone = records("production")
    found = {item["name"]: (item["type"], item["content"]) for item in zone.records.values()}
    assert found == {
        "ams3.agents.icupa.dev": ("A", "203.0.113.1"),
        "fra1.agents.icupa.dev": ("A", "203.0.113.2"),
        "_acme-challenge.agents.icupa.dev": ("CNAME", "agents.challenge.icupa.dev"),
        "_acme-challenge.ams3.agents.icupa.dev": ("CNAME", "ams3.agents.challenge.icupa.dev"),
        "_acme-challenge.fra1.agents.icupa.dev": ("CNAME", "fra1.agents.challenge.icupa.dev"),
    }
    assert not any(item["proxied"] for item in zone.records.values())
    assert {item["ttl"] for item in zone.records.values() if item["type"] == "A"} == {60}


def test_own_name_server_needs_none(records: Callable[[str], Zone]) -> None:
    zone = records("local")
    assert zone.records == {}
    assert zone.others == ["icupa:dns:Records"]
