"""Operations as people read them, made of a log that operations wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from infra.record import Lease, Record, Release, Result, Switch
from infra.record import history as module
from infra.record.__main__ import main
from infra.record.directory import DirectoryStore
from infra.record.history import Entry, change_log, entries, rollback_log
from infra.record.log import event_key

CHAT = Switch.FEATURE_AGENT_CHAT
Digest = Callable[[str], str]


def told(record: Record) -> list[Entry]:
    return entries(record.events())


def begin(record: Record, name: str, who: str = "alice", **options: object) -> Lease:
    lease = record.acquire(name, operation_id=f"{name}-1", who=who, why="planned", **options)  # type: ignore[arg-type]
    lease.log(f"{name}.begin", result=Result.STARTED, why="planned")
    return lease


def end(lease: Lease, name: str, result: Result = Result.OK, **fields: object) -> None:
    lease.log(f"{name}.end", result=result, duration=9.1, **fields)  # type: ignore[arg-type]
    lease.release(result)


@pytest.fixture
def other(release: Release, digest: Digest) -> Release:
    return release.model_copy(
        update={
            "digest": digest("b"),
            "git_sha": "1" * 40,
            "deployed_at": release.deployed_at + timedelta(days=1),
        }
    )


def test_a_release_a_switch_and_a_maintenance_newest_first(record: Record, other: Release) -> None:
    deploy = begin(record, "deploy")
    deploy.update("deploy.released", lambda state: state.with_release(other), digest=other.digest)
    end(deploy, "deploy", why="as planned")
    switch = begin(record, "switch", "bob")
    switch.update("switch.set", lambda state: state.with_switches({CHAT: False}))
    end(switch, "switch")
    maintenance = begin(record, "maintenance")
    maintenance.update("maintenance.on", lambda state: state.with_maintenance(True, message="m", by="a"))
    end(maintenance, "maintenance")

    found = told(record)

    assert [entry.operation for entry in found] == ["maintenance", "switch", "deploy", "bootstrap"]
    shown = [[change.said for change in entry.changes] for entry in found]
    assert shown == [
        ["maintenance off → on"],
        ["FEATURE_AGENT_CHAT on → off"],
        ["release aaaaaaaaaaaa (0000000) → bbbbbbbbbbbb (1111111)"],
        [],
    ]
    deployed = found[2]
    assert (deployed.who, deployed.result, deployed.duration) == ("alice", Result.OK, 9.1)
    assert (deployed.why, deployed.message, deployed.digest) == ("planned", "as planned", other.digest)
    assert (deployed.before.digest, deployed.release) == (record.state().previous_releases[0].digest, other)
    assert found[1].who == "bob"
    assert found[1].release == other


def test_what_runs_is_running_and_what_was_preempted_says_by_whom(record: Record) -> None:
    begin(record, "deploy")
    assert told(record)[0].result is Result.STARTED
    begin(record, "switch", "bob", preempt=True)
    switch, deploy, _ = told(record)
    assert switch.result is Result.STARTED
    assert (deploy.result, deploy.message) == (Result.UNCERTAIN, "pre-empted by bob for switch")


def test_a_killed_operation_that_was_taken_up_again_is_one(
    record: Record, other: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(record, "deploy")
    monkeypatch.setattr("infra.record.lease.is_over", lambda *_: True)
    again = begin(record, "deploy")
    again.update("deploy.released", lambda state: state.with_release(other))
    end(again, "deploy")
    deploy, _ = told(record)
    assert (deploy.resumed, deploy.result) == (1, Result.OK)
    assert deploy.release == other
    # The same command a week later is another run of it.
    end(begin(record, "deploy"), "deploy")
    assert [(entry.operation, entry.resumed) for entry in told(record)[:2]] == [("deploy", 0), ("deploy", 1)]


def test_an_operation_that_lost_its_lease_says_so_itself(record: Record) -> None:
    begin(record, "deploy")
    begin(record, "switch", "bob", preempt=True)
    record.log("deploy.end", operation_id="deploy-1", result=Result.UNCERTAIN, why="bob took it", duration=3)
    _, deploy, _ = told(record)
    assert (deploy.result, deploy.message, deploy.duration) == (Result.UNCERTAIN, "bob took it", 3)


def test_site_plays_are_of_interest_only_where_they_changed_something(record: Record) -> None:
    end(begin(record, "site"), "site")
    joined = begin(record, "site")
    joined.update("bootstrap.hosts", lambda state: state.with_new_hosts(["third"]))
    end(joined, "site")
    assert [(entry.operation, entry.of_interest) for entry in told(record)] == [
        ("site", True),
        ("site", False),
        ("bootstrap", True),
    ]


def test_checks_of_ages_are_of_interest_only_where_they_found_something(record: Record) -> None:
    end(begin(record, "secrets-age"), "secrets-age")
    end(begin(record, "secrets-age"), "secrets-age", Result.FAILED)
    found, nothing, _ = told(record)
    assert (found.result, found.of_interest) == (Result.FAILED, True)
    assert (nothing.result, nothing.of_interest) == (Result.OK, False)


def test_the_rollback_log_has_every_way_back(record: Record, other: Release, digest: Digest) -> None:
    deploy = begin(record, "deploy")
    evidence = record.put_evidence("deploy-1", "primary.json", b"{}")
    deploy.log(
        "deploy.failed",
        result=Result.FAILED,
        why="never healthy",
        details={"evidence": [evidence.model_dump(mode="json")]},
    )
    end(deploy, "deploy", Result.ROLLED_BACK, digest=digest("c"), why="never healthy")
    end(begin(record, "switch"), "switch")
    rollback = begin(record, "rollback")
    rollback.update("rollback.released", lambda state: state.with_release(other))
    end(rollback, "rollback", details={"incident": "https://example.com/a_b"})

    text = rollback_log("test", told(record), "7 events")

    assert text.count("\n## ") == 2
    assert text.index("UTC: rollback") < text.index("UTC: deploy")
    assert "- incident: <https://example.com/a_b>" in text
    assert f"- was about: {digest('c')}" in text
    assert "- result: rolled-back" in text
    assert f"- evidence: {evidence.key}" in text
    assert f"- release after: {other.reference}, commit {other.git_sha}" in text
    assert "switch" not in text
    assert "7 events" in text


def test_a_log_without_a_rollback_says_so(record: Record) -> None:
    assert "No rollback yet." in rollback_log("test", told(record), "1 events")


def test_the_change_log_is_a_table_that_no_text_breaks(record: Record) -> None:
    lease = record.acquire("switch", why="a | b\n<script>*x*_y_`z`[c](https://d)\\")
    lease.update("switch.set", lambda state: state.with_switches({CHAT: False}))
    end(lease, "switch")
    lines = change_log("test", told(record), "4 events").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4
    columns = {row.replace(r"\|", "").count("|") for row in rows}
    assert columns == {9}
    assert r"a \| b &lt;script&gt;\*x\*\_y\_\`z\`\[c](https://d)\\" in rows[2]


@pytest.mark.parametrize(("seconds", "said"), [(None, ""), (9.14, "9.1 s"), (75, "1 min 15 s"), (0, "0.0 s")])
def test_durations_are_read_by_people(seconds: float | None, said: str) -> None:
    assert module.took(seconds) == said


@pytest.fixture
def kept(tmp_path: Path, release: Release) -> tuple[str, Record]:
    record = Record(DirectoryStore(tmp_path / "record"))
    record.bootstrap(
        release=release,
        hosts=["primary", "standby"],
        switches=dict.fromkeys(Switch, True),
        active_region="primary",
    )
    switch = begin(record, "switch")
    switch.update("switch.set", lambda state: state.with_switches({CHAT: False}))
    end(switch, "switch")
    end(begin(record, "site"), "site")
    return f"file://{tmp_path}/record", record


def run(capsys: pytest.CaptureFixture[str], url: str, *arguments: str) -> tuple[int, str, str]:
    code = main(["--url", url, "history", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_the_command_prints_it_in_every_format(
    kept: tuple[str, Record], capsys: pytest.CaptureFixture[str]
) -> None:
    url, record = kept
    code, table, _ = run(capsys, url)
    assert code == 0
    assert table.index("switch") < table.index("bootstrap")
    assert "FEATURE_AGENT_CHAT on → off" in table
    assert "site" not in table
    assert "site" in run(capsys, url, "--all")[1]

    document = json.loads(run(capsys, url, "--format", "json", "--limit", "1")[1])
    assert [(entry["operation"], entry["result"], entry["duration"]) for entry in document] == [
        ("switch", "ok", 9.1)
    ]
    both = run(capsys, url, "--format", "markdown")[1]
    assert both.index("# Change log of") < both.index("# Rollback log of")
    assert "# Change log" not in run(capsys, url, "--format", "markdown", "--log", "rollbacks")[1]
    assert f"head {record.verify().head}" in run(capsys, url, "--verify")[1]


def test_a_tampered_log_is_not_told_as_history(
    kept: tuple[str, Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _ = kept
    event = tmp_path / "record" / event_key(3)
    event.write_bytes(event.read_bytes().replace(b"alice", b"mallo"))
    code, out, err = run(capsys, url, "--verify")
    assert (code, out) == (1, "")
    assert "event 3 was changed" in err
    code, out, err = run(capsys, url)
    assert (code, out) == (1, "")
