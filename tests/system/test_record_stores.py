"""The record on both of its stores, with real processes (issue 3, acceptance 8); needs no running stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra import paths
from infra.record import (
    LeaseHeldError,
    Record,
    RecordConfig,
    StoreUnavailableError,
    Switch,
    open_record,
    open_store,
)
from infra.record.lease import CLOCK_SKEW, SHORTEST_TTL
from infra.record.log import event_key
from infra.secretstore import open_store as open_secrets
from infra.secretstore import sops
from tests.bench.record import bootstrapped
from tests.contest import contest
from tests.gateway import Gateway, running_gateway
from tests.lossy import lossy_proxy

TRIES = 1_000
WRITERS = 2
LOST = 42

_APPENDER = """
import sys
from infra.record import RecordConfig, open_record
record = open_record(RecordConfig.model_validate_json(sys.argv[1]))
for number in range(25):
    record.log("note", who=sys.argv[2], details={"number": number})
"""

_HOLDER = f"""
import sys
from infra.record import LeaseLostError, RecordConfig, Switch, open_record
record = open_record(RecordConfig.model_validate_json(sys.argv[1]))
lease = record.acquire("deploy", who="alice", operation_id="op-1", ttl={SHORTEST_TTL})
with lease.heartbeat():
    print(lease.token, flush=True)
    sys.stdin.readline()
    try:
        lease.update("off", lambda state: state.with_switches({{Switch.FEATURE_AGENT_CHAT: False}}))
    except LeaseLostError as error:
        print(error, flush=True)
        sys.exit({LOST})
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with pytest.MonkeyPatch.context() as patch, running_gateway(tmp_path_factory.mktemp("s3")) as gateway:
        for name, value in gateway.environment.items():
            patch.setenv(name, value)
        yield gateway


@pytest.fixture(params=["directory", "s3"])
def config(request: pytest.FixtureRequest, tmp_path: Path, gateway: Gateway) -> RecordConfig:
    if request.param == "directory":
        return RecordConfig(url=f"file://{tmp_path}/record")
    return gateway.config(tmp_path.name.replace("[", "-").replace("]", ""))


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=paths.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_exactly_one_of_two_processes_wins_each_conditional_write(config: RecordConfig) -> None:
    outcome = contest(config, writers=WRITERS, rounds=TRIES // (2 * WRITERS), increments=TRIES // 10)

    assert outcome.tries >= TRIES
    assert {kind: dict(counts) for kind, counts in outcome.winners.items()} == {
        "create": {1: outcome.rounds},
        "replace": {1: outcome.rounds},
    }
    assert outcome.strangers == 0
    assert outcome.counted == outcome.increments == WRITERS * (TRIES // 10)
    assert outcome.exact


def test_two_processes_append_to_one_chain(config: RecordConfig) -> None:
    record = bootstrapped(config)

    writers = [child(_APPENDER, config.model_dump_json(), name) for name in ("a", "b")]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0

    events = list(record.events(after=1))
    assert [event.seq for event in events] == list(range(2, 52))
    for name in ("a", "b"):
        assert [event.details["number"] for event in events if event.who == name] == list(range(25))
    found = record.verify()
    assert found.ok, found.problems


def test_a_killed_holders_lease_expires_and_its_token_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    """The holder is killed, or stopped and woken up too late; on both stores at once, since it takes time."""
    signals = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
    configs: dict[str, Callable[[str], RecordConfig]] = {
        "directory": lambda name: RecordConfig(url=f"file://{tmp_path}/{name}"),
        "s3": lambda name: gateway.config(f"lease/{name}"),
    }
    cases = [(store, fate) for store in configs for fate in signals]
    records, holders = {}, {}
    for store, fate in cases:
        config = configs[store](fate)
        records[store, fate] = bootstrapped(config)
        holders[store, fate] = child(_HOLDER, config.model_dump_json())
    try:
        tokens = {}
        for case, holder in holders.items():
            assert holder.stdout is not None
            tokens[case] = int(holder.stdout.readline())
        for case, holder in holders.items():
            holder.send_signal(signals[case[1]])

        began = time.monotonic()
        for record in records.values():
            with pytest.raises(LeaseHeldError, match="lasts until"):
                record.acquire("rollback", who="bob", take_from="alice")

        for record in records.values():
            record.acquire("rollback", who="bob", take_from="alice", wait=3 * SHORTEST_TTL)

        assert time.monotonic() - began <= SHORTEST_TTL + CLOCK_SKEW.total_seconds() + 5
        for case, record in records.items():
            lock = record.state().lock
            assert lock is not None
            assert lock.token == tokens[case] + 1
            events = record.verify().events
            if case[1] == "stopped":
                holders[case].send_signal(signal.SIGCONT)
                said, _ = holders[case].communicate("write\n", timeout=60)
                assert holders[case].returncode == LOST
                assert "bob took it for rollback" in said
            assert record.state().switches[Switch.FEATURE_AGENT_CHAT] is True
            found = record.verify()
            assert found.ok, found.problems
            assert found.events == events
    finally:
        for holder in holders.values():
            holder.kill()
            holder.communicate()


def test_the_same_operation_resumes_at_once_where_its_process_is_seen_dead(config: RecordConfig) -> None:
    record = bootstrapped(config)
    script = _HOLDER.replace("record.acquire(", "record.lease(")
    holder = child(script, config.model_dump_json())
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    with pytest.raises(LeaseHeldError):
        record.lease("deploy", who="alice", operation_id="op-1")
    holder.kill()
    holder.communicate()

    with record.lease("deploy", who="alice", operation_id="op-1") as lease:
        assert lease.token == 2
    assert [event.action for event in record.events(after=2)] == ["lease.resume", "lease.release"]


def test_a_tampered_event_is_found_in_the_bucket(gateway: Gateway) -> None:
    record = bootstrapped(gateway.config("tampered"))
    for number in range(5):
        record.log("note", details={"number": number})
    assert record.verify().ok
    path = gateway.bucket / "tampered" / event_key(4)

    path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number":9'))

    found = record.verify()
    assert [(problem.seq, problem.kind) for problem in found.problems] == [(4, "tampered")]


def test_answers_that_get_lost_neither_lose_nor_repeat_a_write(gateway: Gateway) -> None:
    with lossy_proxy(gateway.port) as proxy:
        config = gateway.config("lossy", proxy.port)
        record = bootstrapped(config)
        for number in range(10):
            # The event's answer, and in every second round the checkpoint's too.
            proxy.lose = 1 + number % 2
            record.log("note", details={"number": number})
        assert proxy.lost == 15

        store = open_store(config)
        version = store.put_if_absent("key", b"first")
        proxy.lose = 1
        version = store.put_if_match("key", b"second", version)
        assert store.get("key").version == version

    assert [event.details["number"] for event in record_of(gateway, "lossy").events(after=1)] == list(
        range(10)
    )
    assert record_of(gateway, "lossy").verify().ok


def record_of(gateway: Gateway, prefix: str) -> Record:
    return open_record(gateway.config(prefix))


def test_a_refused_key_is_reported_without_it(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2")
    with pytest.raises(
        StoreUnavailableError, match=r"s3://record/x is not available: SignatureDoesNotMatch"
    ) as caught:
        record_of(gateway, "x").state()
    assert "hunter2" not in str(caught.value)
    assert os.environ["AWS_ACCESS_KEY_ID"] not in str(caught.value)

    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", gateway.environment["AWS_ACCESS_KEY_ID"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", gateway.environment["AWS_SECRET_ACCESS_KEY"])
    nowhere = gateway.config("x").model_copy(update={"url": "s3://no-such-bucket/x"})
    with pytest.raises(StoreUnavailableError, match="NoSuchBucket"):
        open_record(nowhere).state()


def test_a_gateway_that_is_gone_is_reported(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gone, pytest.MonkeyPatch.context() as patch:
        for name, value in gone.environment.items():
            patch.setenv(name, value)
        record = bootstrapped(gone.config("x"))
        assert record.state()
    with pytest.raises(
        StoreUnavailableError, match=r"store s3://record/x is not available: .*Connection refused"
    ):
        record.state()


def test_secrets_lie_in_the_bucket_encrypted(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = tmp_path / "identity"
    identity.write_text(sops.new_identity()[0])
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(identity))
    config = gateway.config("secrets")
    for name in ("redis-password", "metrics-token"):
        open_secrets({}, "production", record=config).put(name, f"canary of {name}", by="alice")

    store = open_secrets({}, "production", record=config)

    assert store.resolve("${secret:redis-password}") == "canary of redis-password"
    assert b"canary" not in open_store(config).get("secrets.sops.yaml").data
