"""Bootstrap of the record and the public name."""

from __future__ import annotations

from typing import Any

import pytest

from infra.outputs.model import StackOutputs
from infra.outputs.read import parse_outputs
from infra.record import Record, Slot, open_record
from infra.site import bootstrap
from infra.site.bootstrap import (
    BootstrapError,
    bootstrap_hosts,
    bootstrap_public_record,
    bootstrap_record,
)
from infra.site.runtime import RuntimeStateError, read_runtimes
from tests.unit.ansible.conftest import DIGEST, IMAGE, OTHER_DIGEST


@pytest.fixture
def outputs(raw_outputs: dict[str, Any]) -> StackOutputs:
    return parse_outputs("test", raw_outputs)


@pytest.fixture
def record(outputs: StackOutputs) -> Record:
    return open_record(outputs.record)


def test_writes_the_first_state_once(record: Record, outputs: StackOutputs) -> None:
    before = read_runtimes(outputs)
    assert bootstrap_record(record, outputs, check=False) == ["record"]
    assert bootstrap_record(record, outputs, check=False) == []
    state = record.state()
    assert (state.active_host, state.active_region) == ("primary", "primary")
    assert state.release.reference == f"{IMAGE}@{DIGEST}"
    assert read_runtimes(outputs) == before, "the inventory must have shown what bootstrap then wrote"


def test_a_dry_run_writes_nothing(record: Record, outputs: StackOutputs) -> None:
    assert bootstrap_record(record, outputs, check=True) == ["record"]
    assert not record.is_bootstrapped()


def test_a_new_host_joins_and_nothing_else_moves(record: Record, raw_outputs: dict[str, Any]) -> None:
    alone = parse_outputs("test", {**raw_outputs, "hosts": raw_outputs["hosts"][:1]})
    bootstrap_record(record, alone, check=False)
    both = parse_outputs("test", raw_outputs)
    with record.lease("site") as lease:
        lease.update("deploy.switch", lambda state: state.with_slot("primary", Slot.GREEN, OTHER_DIGEST))
        lease.update("deploy.switch", lambda state: state.with_active_slot("primary", Slot.GREEN))
        assert bootstrap_record(record, both, check=False) == []
        assert bootstrap_hosts(record, both, None) == ["standby"]
        assert bootstrap_hosts(record, both, lease) == ["standby"]
        assert bootstrap_hosts(record, both, lease) == []
    runtimes = read_runtimes(both)
    assert runtimes["primary"].active_slot == "green"
    assert runtimes["primary"].images[Slot.GREEN] == f"{IMAGE}@{OTHER_DIGEST}"
    assert runtimes["standby"].active_slot == "blue"


def test_a_new_host_needs_the_lease(record: Record, raw_outputs: dict[str, Any]) -> None:
    alone = parse_outputs("test", {**raw_outputs, "hosts": raw_outputs["hosts"][:1]})
    bootstrap_record(record, alone, check=False)
    lease = record.acquire("site", who="ada")
    record.acquire("switch", who="bob", preempt=True)
    with pytest.raises(BootstrapError, match="bob took it for switch"):
        bootstrap_hosts(record, parse_outputs("test", raw_outputs), lease)
    assert set(record.state().hosts) == {"primary"}


def test_outputs_that_make_no_state_are_refused_before_anything_is_written(
    record: Record, raw_outputs: dict[str, Any]
) -> None:
    raw_outputs["release"]["digest"] = "latest"
    with pytest.raises(RuntimeStateError, match="digest"):
        bootstrap_record(record, parse_outputs("test", raw_outputs), check=True)
    assert not record.is_bootstrapped()


class Zone:
    """A DNS client that remembers."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    def read(self, name: str) -> Any:
        assert name == "agents.local.icupa.dev"
        return type("Found", (), {"addresses": self.addresses})

    def create(self, name: str, address: str) -> bool:
        self.addresses = [address]
        return True


def public_record(
    monkeypatch: pytest.MonkeyPatch, zone: Zone, record: Record, outputs: StackOutputs, *, check: bool = False
) -> list[str]:
    monkeypatch.setattr(bootstrap, "secret_of", lambda settings: "${secret:tsig-failover}")
    monkeypatch.setattr(bootstrap, "open_resolver", lambda *arguments: lambda text: "value")
    monkeypatch.setattr(bootstrap, "open_client", lambda settings, secret: zone)
    return bootstrap_public_record(record, outputs, "test", check=check)


def test_points_the_public_name_at_the_active_host(
    monkeypatch: pytest.MonkeyPatch, record: Record, outputs: StackOutputs
) -> None:
    bootstrap_record(record, outputs, check=False)
    zone = Zone()
    assert public_record(monkeypatch, zone, record, outputs, check=True) == ["agents.local.icupa.dev"]
    assert zone.addresses == []
    assert public_record(monkeypatch, zone, record, outputs) == ["agents.local.icupa.dev"]
    assert zone.addresses == ["10.80.0.20"]
    assert public_record(monkeypatch, zone, record, outputs) == []


def test_leaves_the_public_name_where_failover_put_it(
    monkeypatch: pytest.MonkeyPatch, record: Record, outputs: StackOutputs
) -> None:
    bootstrap_record(record, outputs, check=False)
    zone = Zone("10.80.0.30")
    assert public_record(monkeypatch, zone, record, outputs) == []
    assert zone.addresses == ["10.80.0.30"]
