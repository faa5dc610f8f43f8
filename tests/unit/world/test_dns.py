"""Name server and resolver: what the zones hold, and who may change what."""

from __future__ import annotations

import re
from typing import Any

import dns.name
import dns.rdatatype
import dns.zone
import pytest
import yaml

from infra import local
from infra.config.load import load_file
from infra.dns.names import certificate_names, delegation
from infra.world import nameserver, resolver


def parsed(text: str, origin: str) -> dns.zone.Zone:
    return dns.zone.from_text(text, origin=f"{origin}.", relativize=False)


def records(zone: dns.zone.Zone, name: str, kind: str) -> set[str]:
    found = zone.get_rdataset(dns.name.from_text(name), dns.rdatatype.from_text(kind))
    return {str(record) for record in found} if found else set()


@pytest.fixture
def zone() -> dns.zone.Zone:
    return parsed(nameserver.zone(), local.ZONE)


def knot() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(nameserver.configuration())
    return found


def test_every_host_of_the_world_has_its_address(zone: dns.zone.Zone) -> None:
    for place in (*local.PARTIES, *local.MACHINES):
        assert records(zone, place.host, "A") == {str(place.address)}


def test_the_public_record_is_left_to_bootstrap_and_failover(zone: dns.zone.Zone) -> None:
    assert records(zone, local.DOMAIN, "A") == set()


def test_challenges_are_delegated_as_every_environment_delegates_them(zone: dns.zone.Zone) -> None:
    stack = load_file("local")
    names = certificate_names(stack)
    assert names == nameserver.certificate_names()
    for name in names:
        owner, target = delegation(stack, name)
        assert records(zone, owner, "CNAME") == {f"{target}."}
    assert records(zone, local.CHALLENGE_ZONE, "NS") == {f"{local.NAMESERVER.host}."}


def test_a_name_outside_the_zone_has_no_challenge() -> None:
    with pytest.raises(ValueError, match=re.escape("'agents.icupa.dev' is not a name in local.icupa.dev")):
        nameserver.challenge_name("agents.icupa.dev")


def test_nothing_is_cached_longer_than_the_public_record_may_be() -> None:
    for text, origin in (
        (nameserver.zone(), local.ZONE),
        (nameserver.challenge_zone(), local.CHALLENGE_ZONE),
    ):
        for _, rdataset in parsed(text, origin).iterate_rdatasets():
            assert rdataset.ttl == nameserver.TTL
        (soa,) = parsed(text, origin).find_rdataset(dns.name.from_text(origin), dns.rdatatype.SOA)
        assert soa.minimum <= 1


def test_a_changed_zone_file_keeps_its_serial_so_that_the_journal_still_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def serial() -> int:
        (soa,) = parsed(nameserver.zone(), local.ZONE).find_rdataset(
            dns.name.from_text(local.ZONE), dns.rdatatype.SOA
        )
        found: int = soa.serial
        return found

    before = serial()
    monkeypatch.setattr(local, "PARTIES", local.PARTIES[:-1])
    assert serial() == before
    template = knot()["template"][0]
    assert (template["zonefile-load"], template["zonefile-sync"]) == ("whole", -1)
    assert template["journal-content"] == "changes"


def test_each_key_may_change_one_kind_of_record_in_one_place() -> None:
    rules = {rule["id"]: rule for rule in knot()["acl"]}
    failover, acme = rules[nameserver.FAILOVER_KEY], rules[nameserver.ACME_KEY]
    assert (failover["update-type"], failover["update-owner-match"]) == (["A", "AAAA"], "equal")
    assert failover["update-owner-name"] == [f"{local.DOMAIN}."]
    assert (acme["update-type"], acme["update-owner-name"]) == (["TXT"], [f"{local.CHALLENGE_ZONE}."])
    assert all(rule["key"] == name and rule["action"] == "update" for name, rule in rules.items())
    allowed = {zone["domain"]: zone["acl"] for zone in knot()["zone"]}
    assert allowed == {
        f"{local.ZONE}.": [nameserver.FAILOVER_KEY],
        f"{local.CHALLENGE_ZONE}.": [nameserver.ACME_KEY],
    }


def test_zone_files_lie_where_the_configuration_looks_and_hold_no_key() -> None:
    files = nameserver.files()
    assert {zone["file"] for zone in knot()["zone"]} == set(files) - {nameserver.CONFIGURATION_PATH}
    assert "secret" not in files[nameserver.CONFIGURATION_PATH]
    assert knot()["include"] == f"{local.SECRETS_PATH}/tsig.conf"


def test_the_resolver_asks_the_name_server_for_our_zones_and_serves_our_networks_only() -> None:
    text = resolver.configuration()
    stubs = re.findall(r"stub-zone:\n +name: (\S+)\n +stub-addr: (\S+)", text)
    address = str(local.NAMESERVER.address)
    assert stubs == [(f"{local.ZONE}.", address), (f"{local.CHALLENGE_ZONE}.", address)]
    access = re.findall(r"access-control: (\S+) (\S+)", text)
    assert [network for network, right in access if right == "allow"] == [
        "127.0.0.0/8",
        str(local.PRIVATE),
    ]
    assert ("0.0.0.0/0", "refuse") in access


def test_challenges_are_not_cached_but_everything_else_is() -> None:
    zones = re.findall(r"stub-zone:\n((?: +\S.*\n)+)", resolver.configuration())
    uncached = [zone for zone in zones if "stub-no-cache: yes" in zone]
    assert len(uncached) == 1
    assert f"name: {local.CHALLENGE_ZONE}." in uncached[0]


def test_every_network_of_the_stack_may_use_the_resolver() -> None:
    for network in (local.SUBNET, *(machine.subnet for machine in local.MACHINES)):
        assert network.subnet_of(local.PRIVATE)
