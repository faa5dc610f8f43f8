"""A linter fails where it finds something, and where it has nothing to read."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest
from pytest import CaptureFixture, MonkeyPatch

from infra import paths
from tests import lint
from tests.lint import LINTERS, Linter

FILES = [PurePath("one.py"), PurePath("two.py"), PurePath("three.yml")]


def linter(script: str, **changes: object) -> Linter:
    given: dict[str, object] = {"name": "a", "command": ("sh", "-c", script, "sh"), "reads": lint.is_python}
    return Linter(**{**given, **changes})  # type: ignore[arg-type]


def test_it_gets_its_own_files_and_no_others() -> None:
    verdict = lint.run(linter('test "$*" = "one.py two.py"'), FILES)
    assert (verdict.files, verdict.problem) == (2, "")


def test_what_it_says_is_the_problem() -> None:
    assert lint.run(linter("echo E1 >&2; exit 3"), FILES).problem == "E1"
    assert lint.run(linter("exit 3"), FILES).problem == "exit code 3"


def test_a_linter_that_is_missing_is_a_failure() -> None:
    verdict = lint.run(linter("", command=("no-such-linter",)), FILES)
    assert verdict.problem == "can't run no-such-linter: No such file or directory"


def test_no_file_is_a_failure() -> None:
    assert lint.run(linter("true", reads=lint.is_dockerfile), FILES).problem == "there is no file for it"


@pytest.mark.parametrize(("said", "read"), [("checked 1 files", 1), ("nothing to do", 0)])
def test_a_file_that_was_not_read_is_a_failure(said: str, read: int) -> None:
    verdict = lint.run(linter(f"echo {said}", counted=r"checked (\d+)"), FILES)
    assert verdict.problem == f"it read {read} files of at least 2"


def test_one_that_looks_by_itself_gets_no_names() -> None:
    script = 'test $# = 0 && echo "checked 2 files"'
    assert lint.run(linter(script, counted=r"checked (\d+)", discovers=True), FILES).problem == ""


@pytest.mark.parametrize("known", LINTERS, ids=lambda known: known.name)
def test_every_linter_has_files_here(known: Linter) -> None:
    assert [path for path in lint.tracked() if known.reads(path)]


def test_scripts_are_known_by_their_first_line(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    for name, first in {
        "a": "#!/bin/sh",
        "b": "#!/usr/bin/env bash",
        "c": "#!/usr/bin/python3",
        "d": "",
    }.items():
        (tmp_path / name).write_text(f"{first}\n")
    assert [name for name in "abcd" if lint.is_shell(PurePath(name))] == ["a", "b"]


def test_the_exit_code_tells(monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]) -> None:
    monkeypatch.setattr(lint, "LINTERS", (linter("true"), linter("echo bad; exit 1", name="b")))
    assert lint.main(["a"]) == 0
    assert lint.main([]) == 1
    assert "bad" in capsys.readouterr().out
