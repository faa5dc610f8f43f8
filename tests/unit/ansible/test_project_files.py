"""The module that writes a tree, in a directory of the test's own."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ansible.conftest import PLUGINS, load_plugin

module = load_plugin("modules", "project_files")
ME = (os.getuid(), os.getgid())


def file(
    path: str, *, mode: int = 0o600, hidden: bool = False, masked: list[str] | None = None
) -> dict[str, Any]:
    return {"path": path, "mode": mode, "uid": ME[0], "gid": ME[1], "hidden": hidden, "masked": masked}


@dataclass
class Call:
    """What AnsibleModule is to the function under test."""

    params: dict[str, Any]
    check_mode: bool = False


@dataclass
class Host:
    """A root directory and calls on it."""

    root: Path
    directories: list[dict[str, Any]] = field(default_factory=list)
    validators: list[dict[str, Any]] = field(default_factory=list)

    def apply(self, contents: dict[str, str], *files: dict[str, Any], check: bool = False) -> dict[str, Any]:
        entries = list(files) or [file(path) for path in contents]
        payload = {path: base64.b64encode(text.encode()).decode() for path, text in contents.items()}
        parameters = {
            "root": str(self.root),
            "root_mode": 0o750,
            "root_uid": ME[0],
            "root_gid": ME[1],
            "name": "project",
            "directories": self.directories,
            "files": entries,
            "payload": json.dumps(payload),
            "validators": self.validators,
            "docker_config": None,
            "fence": 0,
        }
        return dict(module.apply(Call(parameters, check)))

    def read(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    if os.getuid() != 0:
        monkeypatch.setattr(os, "fchown", lambda *arguments: None)
    return Host(tmp_path / "opt" / "project")


def test_writes_then_changes_nothing(host: Host) -> None:
    contents = {"a.env": "A=1\n", "deep/er/b.yml": "b: 1\n"}
    first = host.apply(contents)
    assert (first["changed"], first["changed_paths"]) == (True, ["a.env", "deep/er/b.yml"])
    assert host.read("deep/er/b.yml") == "b: 1\n"
    assert stat.S_IMODE((host.root / "a.env").stat().st_mode) == 0o600
    second = host.apply(contents)
    assert (second["changed"], second["diff"]) == (False, [])


def test_a_dry_run_on_a_bare_host_writes_nothing(host: Host) -> None:
    found = host.apply({"a.env": "A=1\n"}, check=True)
    assert found["changed"]
    assert "+A=1" not in str(found)
    assert found["diff"][0]["after"] == "A=1\n"
    assert not host.root.parent.exists()


def test_repairs_content_mode_and_directories(host: Host) -> None:
    host.directories = [{"path": "data", "mode": 0o700, "uid": ME[0], "gid": ME[1]}]
    host.apply({"a": "1"})
    (host.root / "a").chmod(0o644)
    (host.root / "data").chmod(0o755)
    found = host.apply({"a": "1"})
    assert found["changed_paths"] == ["a"]
    assert found["changed_directories"] == ["data"]
    assert "# mode 0644" in found["diff"][0]["before"]
    assert stat.S_IMODE((host.root / "data").stat().st_mode) == 0o700
    assert not host.apply({"a": "1"})["changed"]


def test_removes_what_it_wrote_and_nothing_else(host: Host) -> None:
    host.apply({"old.yml": "1", "kept.yml": "1"})
    (host.root / "operators-own.txt").write_text("mine")
    found = host.apply({"kept.yml": "1"})
    assert found["removed_paths"] == ["old.yml"]
    assert not (host.root / "old.yml").exists()
    assert host.read("operators-own.txt") == "mine"
    assert not host.apply({"kept.yml": "1"})["changed"]


def test_replaces_atomically_without_a_stranger_in_a_watched_directory(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.apply({"dynamic/active.yml": "old"})
    before = (host.root / "dynamic/active.yml").stat().st_ino
    seen: list[list[str]] = []
    replace = Path.replace

    def watching(self: Path, target: Any) -> Path:
        seen.append(sorted(entry.name for entry in (host.root / "dynamic").iterdir()))
        assert host.read("dynamic/active.yml") == "old"
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watching)
    host.apply({"dynamic/active.yml": "new"})
    assert seen == [["active.yml"]]
    assert host.read("dynamic/active.yml") == "new"
    assert (host.root / "dynamic/active.yml").stat().st_ino != before


def test_a_run_that_was_killed_is_finished_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.apply({"gone.yml": "1"})
    replace = Path.replace

    def dying(self: Path, target: Any) -> Path:
        if Path(target).name == "b.yml":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", dying)
        host.apply({"a.yml": "1", "b.yml": "1"})
    found = host.apply({"b.yml": "1"})
    assert sorted(found["removed_paths"]) == ["a.yml", "gone.yml"]
    assert host.read("b.yml") == "1"


@pytest.mark.parametrize("path", ["../x", "/etc/x", ""])
def test_refuses_paths_outside(host: Host, path: str) -> None:
    with pytest.raises(module.FilesError, match="does not stay below"):
        host.apply({path: "1"})


def test_refuses_to_write_through_a_link(host: Host, tmp_path: Path) -> None:
    host.apply({"a": "1"})
    (tmp_path / "outside").mkdir()
    (host.root / "linked").symlink_to(tmp_path / "outside")
    with pytest.raises(module.FilesError, match="symbolic link"):
        host.apply({"linked/x": "1"})
    assert list((tmp_path / "outside").iterdir()) == []


def test_refuses_to_replace_what_is_no_file(host: Host) -> None:
    host.apply({"a/b": "1"})
    with pytest.raises(module.FilesError, match="not a regular file"):
        host.apply({"a": "1"})


def test_hidden_files_and_masked_variables_never_show(host: Host) -> None:
    files = [file("x.env", masked=["KEY", "NEW"]), file("key.pem", hidden=True)]
    first = host.apply({"x.env": "KEY=secret-one\nPLAIN=1\n", "key.pem": "secret-two"}, *files)
    second = host.apply(
        {"x.env": "KEY=secret-three\nNEW=secret-four\nPLAIN=2\n", "key.pem": "secret-five"}, *files
    )
    assert "secret-" not in json.dumps([first, second])
    shown = {entry["after_header"].rsplit("/", 1)[1]: entry for entry in second["diff"]}
    assert shown["x.env"]["before"] == "KEY=(hidden)\nPLAIN=1\n"
    assert shown["x.env"]["after"] == "KEY=(hidden, changed)\nNEW=(hidden)\nPLAIN=2\n"
    assert shown["key.pem"]["after"] == "(hidden, changed)\n"


def test_a_variable_that_was_a_secret_stays_hidden(host: Host) -> None:
    host.apply({"x.env": "KEY=secret-one\n"}, file("x.env", masked=["KEY"]))
    assert "secret-one" not in json.dumps(host.apply({"x.env": "KEY=public\n"}, file("x.env", masked=[])))
    host.apply({"y.env": "KEY=secret-two\n"}, file("y.env", masked=["KEY"]))
    assert "secret-two" not in json.dumps(host.apply({"y.env": "OTHER=1\n"}, file("y.env", masked=[])))


def test_a_file_of_unknown_origin_is_not_shown(host: Host) -> None:
    host.apply({"a": "1"})
    (host.root / "x.env").write_text("KEY=secret-by-hand\n")
    found = host.apply({"x.env": "KEY=1\n"}, file("x.env", masked=[]))
    assert found["changed_paths"] == ["x.env"]
    assert "secret-by-hand" not in json.dumps(found)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that knows one service and accepts any file without the word wrong."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
echo "$@" >>{tmp_path}/calls
if [ "$1" = compose ]; then
    tree="$3"
    printf '{{"services": {{"otel": {{"image": "otel:1", "environment": {{"TOKEN": "not-to-be-shown"}},'
    printf '"volumes": [{{"type": "bind", "source": "%s/otel/config.yaml", "target": "/c"}}]}}}}}}' "$tree"
    exit 0
fi
for argument in "$@"; do case "$argument" in *:/c:ro) source="${{argument%%:*}}";; esac; done
cat "$source"
if grep -q wrong "$source"; then echo "bad: $TOKEN" >&2; exit 1; fi
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path / "calls"


def test_validates_changed_files_before_anything_is_replaced(host: Host, engine: Path) -> None:
    host.validators = [{"path": "otel/", "service": "otel", "command": ["/otelcol", "validate"]}]
    assert host.apply({"otel/config.yaml": "right", "a": "1"})["validated"] == ["otel/"]
    with pytest.raises(module.FilesError, match=r"otel refuses .*bad: \(hidden\)") as caught:
        host.apply({"otel/config.yaml": "wrong", "a": "2"})
    assert "not-to-be-shown" not in str(caught.value)
    assert (host.read("otel/config.yaml"), host.read("a")) == ("right", "1")
    assert not (host.root / ".staging" / "tree").exists()
    called = engine.read_text()
    assert "--network none" in called
    assert "not-to-be-shown" not in called


def test_validates_nothing_that_did_not_change(host: Host, engine: Path) -> None:
    host.apply({"otel/config.yaml": "right"})
    host.validators = [{"path": "otel/", "service": "otel", "command": ["/otelcol", "validate"]}]
    assert host.apply({"otel/config.yaml": "right", "a": "1"})["validated"] == []
    assert not engine.exists()


def test_says_what_compose_refuses(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'no such network' >&2; exit 15\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    host.validators = [{"path": "a", "service": "otel", "command": ["x"]}]
    with pytest.raises(module.FilesError, match="Compose refuses the project: no such network"):
        host.apply({"a": "1"})
    assert not (host.root / "a").exists()


_AS_MODULE = """
import runpy, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv.pop())
runpy.run_path(sys.argv.pop(), run_name="__main__")
"""


def test_the_payload_is_no_log_and_shown_nowhere(tmp_path: Path) -> None:
    """The whole module, as Ansible runs it."""
    secret = "a-value-that-nobody-may-see"
    entry = file("x.env", masked=["KEY"])
    payload = json.dumps({"x.env": base64.b64encode(f"KEY={secret}\n".encode()).decode()})
    arguments = {
        "ANSIBLE_MODULE_ARGS": {
            "root": str(tmp_path / "project"),
            "root_mode": 0o750,
            "root_uid": ME[0],
            "root_gid": ME[1],
            "name": "project",
            "files": [entry],
            "payload": payload,
            "_ansible_diff": True,
        }
    }
    done = subprocess.run(
        [sys.executable, "-c", _AS_MODULE, str(module.__file__), str(PLUGINS / "module_utils")],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout)
    assert result["changed"], done.stderr
    assert result["invocation"]["module_args"]["payload"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    for form in (secret, base64.b64encode(f"KEY={secret}\n".encode()).decode()):
        assert form not in done.stdout + done.stderr
