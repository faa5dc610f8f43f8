"""Runs the linters: `python -m tests.lint [NAME …]`, all where none is named.

A linter that is given no file passes, and so does one that finds none by itself. Here both fail.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath

from infra import paths

JOBS = 2
_SHELL = re.compile(rb"#! ?(/usr)?/bin/(env )?(ba|da)?sh\b")
_ANSIBLE = {"ansible", "roles"}


def is_python(path: PurePath) -> bool:
    """Whether Python's linters read it."""
    return path.suffix == ".py"


def is_yaml(path: PurePath) -> bool:
    """Whether it is YAML, by its name."""
    return path.suffix in {".yml", ".yaml"} or path.name in {".yamllint", ".ansible-lint"}


def is_shell(path: PurePath) -> bool:
    """Whether it is a script of a shell, by its name or its first line."""
    if path.suffix in {".sh", ".bash"}:
        return True
    with (paths.REPOSITORY / path).open("rb") as file:
        return _SHELL.match(file.readline(64)) is not None


def is_dockerfile(path: PurePath) -> bool:
    """Whether it is a Dockerfile, by its name."""
    return path.name == "Dockerfile" or path.suffix == ".Dockerfile"


def is_workflow(path: PurePath) -> bool:
    """Whether GitHub runs it."""
    return path.parent == PurePath(".github/workflows") and is_yaml(path)


def is_ansible(path: PurePath) -> bool:
    """Whether it belongs to playbooks or roles."""
    return path.parts[0] in _ANSIBLE and is_yaml(path)


@dataclass(frozen=True)
class Linter:
    """A linter, and which files it must read.

    `counted` finds the number of files in what it prints; where a linter looks for its files by itself
    (`discovers`), nothing else tells how many it found.
    """

    name: str
    command: tuple[str, ...]
    reads: Callable[[PurePath], bool]
    counted: str | None = None
    discovers: bool = False
    environment: dict[str, str] = field(default_factory=dict)


# What the project's configuration names: it is left out, since its inventory asks for a stack.
_ANSIBLE_ENVIRONMENT = {
    "ANSIBLE_LIBRARY": "ansible/plugins/modules",
    "ANSIBLE_ACTION_PLUGINS": "ansible/plugins/action",
    "ANSIBLE_MODULE_UTILS": "ansible/plugins/module_utils",
    "ANSIBLE_FILTER_PLUGINS": "ansible/plugins/filter",
    "ANSIBLE_ROLES_PATH": "roles",
}
LINTERS = (
    Linter(
        "ansible-lint",
        ("env", "--unset=ANSIBLE_CONFIG", "ansible-lint", "--offline", "--nocolor"),
        is_ansible,
        r" in (\d+) files processed",
        True,
        _ANSIBLE_ENVIRONMENT,
    ),
    Linter("mypy", ("mypy",), is_python, r"(?:no issues found in|checked) (\d+) source file"),
    Linter("ruff check", ("ruff", "check", "--quiet"), is_python),
    Linter("ruff format", ("ruff", "format", "--check"), is_python, r"(\d+) files? already formatted"),
    Linter("yamllint", ("yamllint", "--strict"), is_yaml),
    Linter("shellcheck", ("shellcheck",), is_shell),
    Linter("hadolint", ("hadolint",), is_dockerfile),
    Linter("actionlint", ("actionlint",), is_workflow),
)


@dataclass(frozen=True)
class Verdict:
    """What a linter said; `problem` is empty where it is content."""

    name: str
    files: int
    seconds: float
    problem: str


def tracked() -> list[PurePath]:
    """Files of the checkout: those that git has, and new ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=paths.REPOSITORY, capture_output=True, text=True, check=True).stdout
    names = sorted(set(filter(None, listed.split("\0"))))
    return [PurePath(name) for name in names if (paths.REPOSITORY / name).is_file()]


def run(linter: Linter, files: Sequence[PurePath]) -> Verdict:
    """Run one linter over those of `files` that it reads."""
    own = [str(path) for path in files if linter.reads(path)]
    if not own:
        return Verdict(linter.name, 0, 0, "there is no file for it")
    began = time.monotonic()
    try:
        done = subprocess.run(
            [*linter.command, *([] if linter.discovers else own)],
            cwd=paths.REPOSITORY,
            env={**os.environ, **linter.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        return Verdict(linter.name, len(own), 0, f"can't run {linter.command[0]}: {error.strerror}")
    seconds = time.monotonic() - began
    if done.returncode:
        return Verdict(linter.name, len(own), seconds, done.stdout.strip() or f"exit code {done.returncode}")
    if linter.counted is None:
        return Verdict(linter.name, len(own), seconds, "")
    found = re.search(linter.counted, done.stdout)
    read = int(found[1]) if found else 0
    problem = f"it read {read} files of at least {len(own)}" if read < len(own) else ""
    return Verdict(linter.name, read, seconds, problem)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run linters, print a line each and what they found; return the exit code."""
    known = {linter.name: linter for linter in LINTERS}
    parser = argparse.ArgumentParser(prog="python -m tests.lint", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    names = parser.parse_args(arguments).names or list(known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; accepted: {', '.join(known)}")
    files = tracked()
    failed = False
    with ThreadPoolExecutor(max_workers=JOBS) as pool:
        for verdict in pool.map(lambda name: run(known[name], files), names):
            failed |= bool(verdict.problem)
            line = f"{verdict.name:<12} {verdict.files:>4} files {verdict.seconds:5.1f} s"
            print(f"{line}  {'FAILED' if verdict.problem else 'clean'}", flush=True)
            if verdict.problem:
                print(verdict.problem, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
