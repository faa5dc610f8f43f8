"""Deploys and rollbacks of the running stack, as tests and benchmarks handle them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra import local
from infra.outputs.read import read_outputs
from infra.record import Event, Record, open_record
from tests.load.plan import Plan
from tests.load.stack import loading, lossless
from tests.running import STACK, machine

HOSTS = {place.name for place in local.MACHINES}
LOAD = Plan(rate=40, seconds=900)


def record() -> Record:
    """The stack's record."""
    return open_record(read_outputs(STACK).record)


def deploy(release: str, *options: str) -> list[str]:
    """Command of a deploy."""
    return _playbook("deploy", "-e", f"release={release}", *options)


def rollback(*options: str) -> list[str]:
    """Command of a rollback."""
    return _playbook("rollback", *options)


def _playbook(name: str, *options: str) -> list[str]:
    return ["ansible-playbook", f"ansible/playbooks/{name}.yml", "-e", f"stack={STACK}", *options]


def containers() -> dict[str, set[str]]:
    """Digests of the service's containers, ended ones too, by host: what is, whatever the record says."""
    shown = '{{.Label "com.docker.compose.service"}} {{.Image}}'
    found = {}
    for place in local.MACHINES:
        listed = machine(place).shell(f"docker ps --all --no-trunc --format '{shown}'").splitlines()
        found[place.name] = {line.rpartition("@")[2] for line in listed if line.startswith("agents-")}
    return found


def only(digest: str) -> dict[str, set[str]]:
    """What `containers` finds where a release serves alone everywhere."""
    return {host: {digest} for host in HOSTS}


def serves_alone(digest: str) -> None:
    """Assert that record and hosts agree that a release serves, and nothing else runs."""
    state = record().state()
    assert state.release.digest == digest
    assert {host: set(found.digests) for host, found in state.hosts.items()} == only(digest)
    assert containers() == only(digest)
    assert state.lock is None


def last(action: str) -> Event:
    """The last event of an action."""
    return [event for event in record().events() if event.action == action][-1]


@contextmanager
def nothing_lost(plan: Plan = LOAD) -> Iterator[None]:
    """Load while the block runs: no request may fail, no acknowledged write may be missing."""
    with loading(plan) as load:
        load.await_requests(round(plan.rate))
        yield
        load.await_requests(round(plan.rate * 2))
        lossless(load)
