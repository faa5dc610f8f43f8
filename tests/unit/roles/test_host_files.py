from __future__ import annotations

import getpass
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.roles.modules import load_module
from tests.waiting import eventually

ME = getpass.getuser()


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_module("host_files")


def options(**given: Any) -> dict[str, Any]:
    return {"files": [], "lines": [], "modes": {}, "absent": [], "mark": "", **given}


def entry(path: Path, content: str, **more: str) -> dict[str, str]:
    return {"path": str(path), "content": content, "owner": ME, **more}


def test_a_file_is_written_once(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.conf"
    wanted = options(files=[entry(path, "x\n", mode="0600", directory_mode="0700")])
    first = module.run(wanted, check=False)
    assert (first["changed"], first["changed_paths"]) == (True, [str(path)])
    assert path.read_text() == "x\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert module.run(wanted, check=False)["changed"] is False


def test_check_mode_shows_and_writes_nothing(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    result = module.run(options(files=[entry(path, "x\n", validate="/no/such/program %s")]), check=True)
    assert result["changed"] is True
    assert result["diff"][0]["after"] == "x\n"
    assert not path.exists()


def test_a_mode_alone_is_a_change(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("x\n")
    path.chmod(0o666)
    result = module.run(options(files=[entry(path, "x\n", mode="0640")]), check=False)
    assert result["changed"] is True
    assert result["diff"][0]["before"] == "0666\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_one_refused_file_changes_none(module: ModuleType, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    bad.write_text("old\n")
    files = [entry(good, "x\n"), entry(bad, "no\n", validate="sh -c 'echo wrong >&2; exit 1' %s")]
    with pytest.raises(module.FilesError, match=r"bad was refused by sh: wrong"):
        module.run(options(files=files), check=False)
    assert not good.exists()
    assert bad.read_text() == "old\n"


def test_the_validation_sees_the_new_content(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    module.run(options(files=[entry(path, "wanted\n", validate="grep -q wanted %s")]), check=False)
    assert path.read_text() == "wanted\n"


def test_an_owner_who_does_not_exist_is_said(module: ModuleType, tmp_path: Path) -> None:
    files = [{"path": "~nobody-of-that-name/a", "content": "x", "owner": "nobody-of-that-name"}]
    with pytest.raises(module.FilesError, match="nobody-of-that-name, who does not exist"):
        module.run(options(files=files), check=False)
    assert module.run(options(files=files), check=True)["changed"] is True


def test_a_line_is_replaced_in_place_and_others_like_it_go(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "login.defs"
    path.write_text("A 1\n#UMASK 022\nB 2\nUMASK 077\n")
    lines = [
        {"path": str(path), "match": r"#?\s*UMASK\s.*", "line": "UMASK 027"},
        {"path": str(path), "match": r"C\s.*", "line": "C 3"},
    ]
    assert module.run(options(lines=lines), check=False)["changed"] is True
    assert path.read_text() == "A 1\nUMASK 027\nB 2\nC 3\n"
    assert module.run(options(lines=lines), check=False)["changed"] is False


def test_modes_pass_over_what_is_absent(module: ModuleType, tmp_path: Path) -> None:
    present = tmp_path / "cron.d"
    present.mkdir(mode=0o755)
    wanted = options(modes={str(present): "0700", str(tmp_path / "absent"): "0700"})
    assert module.run(wanted, check=False)["changed_paths"] == [str(present)]
    assert stat.S_IMODE(present.stat().st_mode) == 0o700


def test_unwanted_files_are_removed(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("x\n")
    wanted = options(absent=[str(path), str(tmp_path / "b.conf")])
    assert module.run(wanted, check=True)["changed_paths"] == [str(path)]
    assert path.exists()
    assert module.run(wanted, check=False)["changed_paths"] == [str(path)]
    assert not path.exists()


def test_only_marked_files_are_removed(module: ModuleType, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text("# Written by us\n")
    theirs.write_text("root\n")
    wanted = options(absent=[str(ours), str(theirs)], mark="Written by us")
    assert module.run(wanted, check=False)["changed_paths"] == [str(ours)]
    assert theirs.exists()


def at(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")


def unit(moment: datetime, **more: str) -> dict[str, str]:
    """A unit that was started long ago and reloaded at `moment`, or started then if `more` says so."""
    started = {"ExecMainStartTimestamp": at(datetime(2020, 1, 1, tzinfo=UTC))}
    return {
        **{"ActiveState": "active", "ReloadResult": "success", "StateChangeTimestamp": at(moment)},
        **started,
        **more,
    }


BEFORE = datetime.now(UTC) - timedelta(hours=1)
AFTER = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("reloads", "known", "expected"),
    [
        (True, unit(BEFORE), True),
        (True, unit(AFTER), False),
        (True, unit(AFTER, ReloadResult="exit-code"), True),
        (True, unit(BEFORE, ActiveState="inactive"), False),
        (False, unit(AFTER), True),
        (False, unit(BEFORE, ExecMainStartTimestamp=at(AFTER)), False),
        (False, unit(AFTER, ExecMainStartTimestamp=""), True),
        (False, unit(AFTER, ExecMainStartTimestamp=at(AFTER), ReloadResult="exit-code"), False),
    ],
)
def test_a_daemon_is_outdated_until_it_has_read_what_is_on_disk(
    module: ModuleType, tmp_path: Path, reloads: bool, known: dict[str, str], expected: bool
) -> None:
    path = tmp_path / "a.conf"
    path.write_text("x\n")
    daemons = {"a.service": {"paths": [str(path)], "reloads": reloads}}
    assert module.outdated(daemons, [], lambda _: known) == (["a.service"] if expected else [])


def test_a_change_of_this_run_counts_whatever_the_clock_says(module: ModuleType, tmp_path: Path) -> None:
    daemons = {
        "a.service": {"paths": [str(tmp_path / "a.d")], "reloads": True},
        "b.service": {"paths": [str(tmp_path / "a.d2")], "reloads": True},
    }
    changed = [str(tmp_path / "a.d" / "not-there-in-check-mode")]
    assert module.outdated(daemons, changed, lambda _: unit(AFTER)) == ["a.service"]
    assert module.outdated(daemons, changed, lambda _: unit(AFTER, ActiveState="inactive")) == []


def test_a_removed_file_is_a_change_of_its_directory(module: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("x\n")
    read_at = module.last_change([str(tmp_path)])
    moment = datetime.fromtimestamp(read_at // 10**6, UTC).replace(microsecond=read_at % 10**6)
    daemons = {"a.service": {"paths": [str(tmp_path)]}}

    def known(_: str) -> dict[str, str]:
        return unit(moment, ExecMainStartTimestamp=at(moment))

    assert module.outdated(daemons, [], known) == []
    eventually(lambda: stamp(tmp_path.parent) > read_at, "the clock of the file system moves on")
    (tmp_path / "a.conf").unlink()
    assert module.outdated(daemons, [], known) == ["a.service"]


def stamp(directory: Path) -> int:
    """Present time of the file system in microseconds."""
    probe = directory / "probe"
    probe.write_text("")
    return probe.stat().st_ctime_ns // 1000


def test_files_written_with_an_old_date_are_new(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("x\n")
    os.utime(path, (0, 0))
    daemons = {"a.service": {"paths": [str(path)], "reloads": True}}
    assert module.outdated(daemons, [], lambda _: unit(BEFORE)) == ["a.service"]
