"""`python -m infra.record`."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

from infra.record import Record, Release, State, Switch, Window
from infra.record.__main__ import main
from infra.record.directory import DirectoryStore
from infra.record.log import event_key
from infra.record.model import now


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/record"


@pytest.fixture
def first(release: Release) -> str:
    return json.dumps(
        {
            "release": release.model_dump(mode="json"),
            "hosts": ["primary"],
            "switches": dict.fromkeys(Switch, True),
            "active_region": "primary",
        }
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    output = capsys.readouterr()
    return code, output.out, output.err


def test_bootstraps_shows_and_verifies(
    url: str, first: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(first))
    assert run(capsys, "--url", url, "bootstrap")[:2] == (0, "bootstrapped\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(first))
    assert "nothing changed" in run(capsys, "--url", url, "bootstrap")[1]

    code, out, _ = run(capsys, "--url", url, "--json", "show")
    assert code == 0
    assert json.loads(out)["active_host"] == "primary"
    assert "blue" in run(capsys, "--url", url, "show")[1]
    assert json.loads(run(capsys, "--url", url, "--json", "events")[1])[0]["action"] == "bootstrap"
    assert "bootstrap" in run(capsys, "--url", url, "events")[1]
    assert "1 events, chain complete" in run(capsys, "--url", url, "verify")[1]


def test_shows_whether_whoever_holds_the_lease_is_at_work(
    tmp_path: Path,
    url: str,
    first: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(first))
    run(capsys, "--url", url, "bootstrap")
    record = Record(DirectoryStore(tmp_path / "record"))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        record.acquire("deploy", who="ada", pid=other.pid)
        assert "token 1; is renewed" in run(capsys, "--url", url, "show")[1]
    assert "is over: nobody is at work (take_from='ada')" in run(capsys, "--url", url, "show")[1]


def test_verify_fails_for_a_tampered_event(
    tmp_path: Path, url: str, first: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(first))
    run(capsys, "--url", url, "bootstrap")
    store = DirectoryStore(tmp_path / "record")
    Record(store).log("note")
    path = tmp_path / "record" / event_key(2)
    path.write_bytes(path.read_bytes().replace(b"note", b"nope"))

    code, _, err = run(capsys, "--url", url, "verify")
    assert code == 1
    assert "tampered: event 2 was changed" in err
    code, out, _ = run(capsys, "--url", url, "--json", "verify")
    assert code == 1
    assert json.loads(out)["problems"][0]["seq"] == 2


def test_errors_are_one_line(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, "--url", url, "show")
    assert (code, out) == (1, "")
    assert "is empty: the first site play bootstraps it" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    code, _, err = run(capsys, "--url", url, "bootstrap")
    assert code == 1
    assert "release: Field required" in err
    assert run(capsys, "--url", "ftp://x", "show")[0] == 1
    assert run(capsys, "--stack", "no-such-stack", "show")[0] == 1


def test_show_names_the_releases_to_go_back_to_whole(
    tmp_path: Path, url: str, first: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(first))
    run(capsys, "--url", url, "bootstrap")
    assert "good before" not in run(capsys, "--url", url, "show")[1]
    record = Record(DirectoryStore(tmp_path / "record"))
    former = record.state().release
    newer = former.model_copy(update={"digest": f"sha256:{'b' * 64}"})
    with record.lease("drill") as held:
        held.update("deploy.release", lambda state: state.with_release(newer))
    shown = run(capsys, "--url", url, "show")[1]
    assert shown.index(newer.reference) < shown.index("good before") < shown.index(former.reference)


def test_show_says_since_when_maintenance_is_on_and_what_is_planned(
    tmp_path: Path, url: str, first: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(first))
    run(capsys, "--url", url, "bootstrap")
    record = Record(DirectoryStore(tmp_path / "record"))

    def changed(state: State) -> State:
        planned = Window(at=now(), announced_at=now(), why="kernel", by="ada", done=("backup",))
        return state.with_window(planned).with_maintenance(True, message="index is broken", by="ada")

    with record.lease("drill") as held:
        held.update("maintenance.on", changed)
    shown = " ".join(run(capsys, "--url", url, "show")[1].split())
    assert "by ada: index is broken" in shown
    assert "ON since 20" in shown
    assert "by ada: kernel; done: backup" in shown
