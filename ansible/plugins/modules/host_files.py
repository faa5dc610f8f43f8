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
"""

DEFAULT_MODE = 0o644
DIRECTORY_MODE = 0o755
ROOT = "root"


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


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": []},
            "lines": {"type": "list", "elements": "dict", "default": []},
            "modes": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "str", "default": []},
            "mark": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except FilesError as error:
        module.fail_json(msg=f"{error}. Nothing was changed.")


if __name__ == "__main__":
    main()
