#!/usr/bin/python
"""Make system files of a host what they must be, in one task; see DOCUMENTATION."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
---
module: host_files
short_description: Make system files what they must be, in one task
description:
  - Writes whole files, replaces or adds single lines, sets modes and removes files.
  - Every new content is validated before the first file is replaced, so that a refused one changes nothing.
  - Files are replaced by renaming; missing directories are made.
  - Says which daemons run on older settings than those on disk, whichever play wrote them.
author: ICUPA operations
options:
  files:
    description: >-
      Whole files, C(path), C(content), C(mode) (octal text, 0644 by default), C(validate) (a command; %s is
      the staged file), C(owner) (a user, root by default, who also gets the directories that are missing) and
      C(directory_mode) (of those, 0755 by default). A path may begin with C(~user/).
    type: list
    elements: dict
    default: []
  lines:
    description: >-
      Single lines of files, C(path), C(match) (a regular expression of the whole line) and C(line). The first
      match is replaced and further ones are removed; without a match the line is added at the end.
    type: list
    elements: dict
    default: []
  modes:
    description: Path to mode (octal text), for what may be there; absent files are passed over.
    type: dict
    default: {}
  absent:
    description: Files to remove, if they hold the mark.
    type: list
    elements: str
    default: []
  mark:
    description: Text that a file must hold to be removed, so that nobody else's file ever is.
    type: str
    default: ""
  daemons:
    description: >-
      Unit to C(paths), the files and directories that it reads its settings from, and C(reloads), whether a
      reload is enough for it to read them again (false by default, it must be restarted).
    type: dict
    default: {}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = """
- name: Configure sshd
  host_files:
    files:
      - path: /etc/ssh/sshd_config.d/00-icupa.conf
        content: "PermitRootLogin no"
        mode: "0600"
        validate: /usr/sbin/sshd -t -f %s
"""

RETURN = """
changed_paths: {description: What was changed or removed., type: list, returned: always}
outdated:
  description: >-
    Those of the daemons that are active and have not read what is on disk (or would be, in check mode), and
    those that failed to reload.
  type: list
  returned: always
"""

DEFAULT_MODE = 0o644
DIRECTORY_MODE = 0o755
ROOT = "root"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ACTIVE = ("active", "activating", "reloading")
# Moments that systemd keeps: of any change of state, such as the end of a reload; of the main process' start.
RELOADED, RESTARTED = "StateChangeTimestamp", "ExecMainStartTimestamp"


class FilesError(Exception):
    """A content was refused by its validation, or its owner does not exist; nothing was changed."""


def read(path: Path) -> str | None:
    """Content of a file, None where there is none."""
    return path.read_text() if path.is_file() else None


def with_line(text: str, match: str, line: str) -> str:
    """Replace the first line that matches by `line` and drop the other ones; add it where none does."""
    pattern = re.compile(match)
    kept: list[str] = []
    placed = False
    for present in text.splitlines():
        if not pattern.fullmatch(present):
            kept.append(present)
        elif not placed:
            kept.append(line)
            placed = True
    if not placed:
        kept.append(line)
    return "\n".join(kept) + "\n"


def identity(owner: str) -> tuple[int, int] | None:
    """User and group id of a user, None if there is none (yet)."""
    try:
        entry = pwd.getpwnam(owner)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def stage(path: Path, content: str, mode: int, owner: tuple[int, int]) -> Path:
    """Write the content beside `path`, ready to be renamed over it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    staged = Path(name)
    os.chown(staged, *owner)
    staged.chmod(mode)
    return staged


def validate(command: str, content: str, name: str) -> None:
    """Run `command` on a private copy of the content; %s stands for its path.

    Raises:
        FilesError: the command refused it; the message holds what it said.
    """
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / Path(name).name
        copy.write_text(content)
        arguments = [str(copy) if part == "%s" else part for part in shlex.split(command)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FilesError(f"{name} was refused by {arguments[0]}: {(done.stderr or done.stdout).strip()}")


Validator = Callable[[str, str, str], None]


class Change:
    """One path with its present and its wanted content, mode and owner; `None` leaves what is there."""

    def __init__(
        self,
        path: str,
        *,
        content: str | None = None,
        mode: int | None = None,
        owner: str | None = None,
        command: str = "",
        directory_mode: int = DIRECTORY_MODE,
    ) -> None:
        self.path = Path(path).expanduser() if owner is None or identity(owner) else Path(path)
        self.content = content
        self.command = command
        self.owner = owner
        self.directory_mode = directory_mode
        self.before = read(self.path)
        status = self.path.stat() if self.path.exists() else None
        self.mode_before = stat.S_IMODE(status.st_mode) if status else None
        self.mode = mode if mode is not None else self.mode_before
        self.owner_before = (status.st_uid, status.st_gid) if status else (0, 0)

    @property
    def rewrites(self) -> bool:
        """Whether the content differs."""
        return self.content is not None and self.content != self.before

    @property
    def changes(self) -> bool:
        """Whether anything differs."""
        moves = self.owner is not None and identity(self.owner) != self.owner_before
        return self.rewrites or moves or (self.mode is not None and self.mode != self.mode_before)

    def check(self, validator: Validator) -> None:
        """See that `apply` can succeed.

        Raises:
            FilesError: it can't.
        """
        if self.owner is not None and identity(self.owner) is None:
            raise FilesError(f"{self.path} is to belong to the user {self.owner}, who does not exist")
        if self.command and self.content is not None and self.rewrites:
            validator(self.command, self.content, str(self.path))

    def apply(self) -> None:
        """Bring content, mode and owner to what is wanted."""
        mode = DEFAULT_MODE if self.mode is None else self.mode
        owner = (identity(self.owner) if self.owner is not None else None) or self.owner_before
        if self.content is not None and self.rewrites:
            make_directories(self.path.parent, owner, self.directory_mode)
            staged = stage(self.path, self.content, mode, owner)
            try:
                staged.replace(self.path)
            except OSError:
                with contextlib.suppress(FileNotFoundError):
                    staged.unlink()
                raise
        else:
            os.chown(self.path, *owner)
            self.path.chmod(mode)

    def diff(self) -> dict[str, str]:
        """Entry of Ansible's diff."""
        if self.rewrites:
            return {
                "before_header": str(self.path),
                "after_header": str(self.path),
                "before": self.before or "",
                "after": self.content or "",
            }
        return {
            "before_header": f"{self.path} (mode)",
            "after_header": f"{self.path} (mode)",
            "before": f"{self.mode_before or 0:04o}\n",
            "after": f"{self.mode or 0:04o}\n",
        }


def make_directories(directory: Path, owner: tuple[int, int], mode: int) -> None:
    """Make a directory and its parents, whatever the umask is."""
    if directory.is_dir():
        return
    make_directories(directory.parent, owner, mode)
    directory.mkdir()
    os.chown(directory, *owner)
    directory.chmod(mode)


def wanted(params: dict[str, Any]) -> list[Change]:
    """All changes that the options ask for, whether or not they are needed."""
    changes = [
        Change(
            entry["path"],
            content=entry["content"],
            mode=int(entry.get("mode", f"{DEFAULT_MODE:o}"), 8),
            owner=entry.get("owner", ROOT),
            command=entry.get("validate", ""),
            directory_mode=int(entry.get("directory_mode", f"{DIRECTORY_MODE:o}"), 8),
        )
        for entry in params["files"]
    ]
    edited: dict[str, str] = {}
    for entry in params["lines"]:
        text = edited.get(entry["path"]) or read(Path(entry["path"])) or ""
        edited[entry["path"]] = with_line(text, entry["match"], entry["line"])
    changes += [Change(path, content=content) for path, content in edited.items()]
    changes += [
        Change(path, mode=int(mode, 8)) for path, mode in params["modes"].items() if Path(path).exists()
    ]
    return changes


def run(params: dict[str, Any], check: bool, validator: Validator = validate) -> dict[str, Any]:
    """Do what the options ask for; the module's result.

    Raises:
        FilesError: a content was refused or an owner does not exist; nothing was changed.
    """
    changes = [change for change in wanted(params) if change.changes]
    removed = [path for path in params["absent"] if params["mark"] in (read(Path(path)) or "")]
    removed = [path for path in removed if Path(path).is_file()]
    if not check:
        for change in changes:
            change.check(validator)
    differences = [change.diff() for change in changes]
    differences += [
        {"before_header": path, "after_header": path, "before": read(Path(path)) or "", "after": ""}
        for path in removed
    ]
    if not check:
        for change in changes:
            change.apply()
        for path in removed:
            Path(path).unlink()
    paths = [*dict.fromkeys(str(change.path) for change in changes), *removed]
    return {"changed": bool(paths), "changed_paths": paths, "diff": differences}


def unit_properties(unit: str) -> dict[str, str]:
    """What systemd knows of a unit; moments as `Fri 2026-11-20 08:28:40.123456 UTC`, empty for never."""
    shown = subprocess.run(
        [
            *("systemctl", "show", "--timestamp=us+utc"),
            f"--property=ActiveState,ReloadResult,{RELOADED},{RESTARTED}",
            *("--", unit),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(line.split("=", 1) for line in shown.splitlines())


def microseconds(moment: str) -> int:
    """A moment of systemd as microseconds since 1970; 0 for never."""
    if moment in ("", "n/a"):
        return 0
    _, clock = moment.split(" ", 1)
    parsed = datetime.strptime(clock, "%Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC)
    return (parsed - EPOCH) // timedelta(microseconds=1)


def last_change(paths: list[str]) -> int:
    """When the newest of the files and directories came to be as it is, in µs since 1970; 0 for none.

    By the time of the inode, which a rename sets and nobody can choose; a directory's tells of removed files.
    """
    given = [Path(path) for path in paths if Path(path).exists()]
    entries = [entry for path in given if path.is_dir() for entry in path.iterdir()]
    return max((path.lstat().st_ctime_ns // 1000 for path in [*given, *entries]), default=0)


def outdated(
    daemons: dict[str, dict[str, Any]],
    changed: list[str],
    properties: Callable[[str], dict[str, str]] = unit_properties,
) -> list[str]:
    """Units that are active and have not read their settings since they changed; `changed` counts always."""
    found: list[str] = []
    for unit, daemon in daemons.items():
        known = properties(unit)
        if known["ActiveState"] not in ACTIVE:
            continue
        reloads = daemon.get("reloads", False)
        read_at = microseconds(known.get(RELOADED if reloads else RESTARTED, ""))
        mine = [Path(path) for path in daemon["paths"]]
        written = any(Path(path).is_relative_to(place) for path in changed for place in mine)
        failed = reloads and known.get("ReloadResult", "success") != "success"
        if written or failed or last_change(daemon["paths"]) > read_at:
            found.append(unit)
    return found


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": []},
            "lines": {"type": "list", "elements": "dict", "default": []},
            "modes": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "str", "default": []},
            "mark": {"type": "str", "default": ""},
            "daemons": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except FilesError as error:
        module.fail_json(msg=f"{error}. Nothing was changed.")
    module.exit_json(**result, outdated=outdated(module.params["daemons"], result["changed_paths"]))


if __name__ == "__main__":
    main()
