#!/usr/bin/python
"""Makes a tree of files on a host what it must be, in one task; see DOCUMENTATION."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, TypedDict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.fence import FencedError, fenced
from ansible.module_utils.tree import FilesError, attributes, below, ensure_directory, read_regular

DOCUMENTATION = """
module: project_files
short_description: Write a tree of files in one task
description:
  - Writes directories and files below one root, each file staged beside the tree and renamed into place.
  - Removes files that it wrote before under the same name and that are no longer wanted; nothing else.
  - Called by the action plugin of the same name, which resolves secrets on the controller.
options:
  root:
    description: Directory of the tree; made if absent.
    type: path
    required: true
  root_mode: {description: Mode of the root., type: int, required: true}
  root_uid: {description: Owner of the root., type: int, required: true}
  root_gid: {description: Group of the root., type: int, required: true}
  name:
    description: Name of this set of files; its list of written paths is kept under it.
    type: str
    required: true
  directories:
    description: Directories below the root.
    type: list
    elements: dict
  files:
    description: Files below the root, without their contents.
    type: list
    elements: dict
  payload:
    description: Contents, JSON of path to base64; never shown.
    type: str
    required: true
  validators:
    description: Commands that check a changed file inside its service's image before anything is replaced.
    type: list
    elements: dict
  docker_config:
    description: Directory with the registry login, for images that validators need.
    type: path
  fence:
    description: Token of the operation, which must not be lower than one that this host has seen; 0 is none.
    type: int
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Write the project's files
  project_files:
    root: /opt/icupa/deployments/agents-service
    project: "{{ icupa_project }}"
    runtime: "{{ icupa_runtime }}"
"""

RETURN = """
changed_paths: {description: Files written., type: list, returned: always}
removed_paths: {description: Files removed., type: list, returned: always}
"""

STAGING = ".staging"
LEDGER = ".files"
HIDDEN = "(hidden)"
PARENT_MODE = 0o750
VALIDATOR_TIMEOUT = 120


class Entry(TypedDict):
    """A file as the action plugin describes it; `masked` are names of an env file's variables."""

    path: str
    mode: int
    uid: int
    gid: int
    hidden: bool
    masked: list[str] | None


class Validator(TypedDict):
    """A command that must accept files whose path starts with `path`, in the image of `service`."""

    path: str
    service: str
    command: list[str]


class Shown(TypedDict):
    """What a diff of a file that was written may not show."""

    hidden: bool
    masked: list[str] | None


class Diff(TypedDict):
    """One entry of Ansible's diff."""

    before_header: str
    after_header: str
    before: str
    after: str


def wanted_attributes(entry: Entry) -> tuple[int, int, int]:
    """Mode, uid, gid as the entry wants them."""
    return entry["mode"], entry["uid"], entry["gid"]


def mask(text: str, other: str, secret: set[str]) -> str:
    """Env file without the values of the variables in `secret`; tells those that differ from `other`'s."""
    others = dict(line.split("=", 1) for line in other.splitlines() if "=" in line)
    lines = []
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        changed = ", changed" if name in others and others[name] != value else ""
        lines.append(f"{name}=(hidden{changed})" if separator and name in secret else line)
    return "".join(f"{line}\n" for line in lines)


def text_of(content: bytes | None) -> str:
    """Content for a diff."""
    return (content or b"").decode(errors="replace")


def difference(path: Path, entry: Entry, shown: Shown | None, before: bytes | None, after: bytes) -> Diff:
    """Diff of one file that shows no secret; `shown` is how the last run treated it, if it wrote it."""
    old, new = text_of(before), text_of(after)
    masked = entry["masked"]
    if entry["hidden"]:
        old = f"{HIDDEN}\n" if before is not None else ""
        new = "(hidden, changed)\n" if before != after else old
    elif shown is None or shown["hidden"] or (shown["masked"] is None) != (masked is None):
        old = f"{HIDDEN}\n" if before is not None else ""
        new = mask(new, "", set(masked or []))
    elif masked is not None:
        secret = {*masked, *(shown["masked"] or [])}
        old, new = mask(old, "", secret), mask(new, old, secret)
    found = attributes(path)
    if found is not None and found != wanted_attributes(entry):
        old = f"# mode {found[0]:04o}, owner {found[1]}:{found[2]}\n{old}"
        new = f"# mode {entry['mode']:04o}, owner {entry['uid']}:{entry['gid']}\n{new}"
    return Diff(before_header=str(path), after_header=str(path), before=old, after=new)


class Tree:
    """One set of files below a root."""

    def __init__(self, root: Path, name: str, uid: int, gid: int) -> None:
        self.root = root
        self.owner = (uid, gid)
        self.staging = root / STAGING
        self.ledger = root / LEDGER / f"{name}.json"

    def written(self) -> dict[str, Shown]:
        """Files of the last run."""
        content = read_regular(self.ledger)
        return dict(json.loads(content)) if content else {}

    def remember(self, written: dict[str, Shown]) -> None:
        """Keep the files for the next run."""
        content = (json.dumps(written, indent=1, sort_keys=True) + "\n").encode()
        if read_regular(self.ledger) != content:
            self.ledger.parent.mkdir(mode=0o700, exist_ok=True)
            self.replace(self.ledger, self.stage("ledger", content, (0o600, 0, 0)))

    def stage(self, name: str, content: bytes, wanted: tuple[int, int, int]) -> Path:
        """Write a file with its final attributes outside every watched directory, on the same file system."""
        staged = self.staging / name.replace("/", "%")
        staged.unlink(missing_ok=True)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchown(file.fileno(), wanted[1], wanted[2])
            os.fchmod(file.fileno(), wanted[0])
            os.fsync(file.fileno())
        return staged

    def replace(self, path: Path, staged: Path) -> None:
        """Rename a staged file into place; makes missing parents."""
        missing = [parent for parent in path.parents if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=PARENT_MODE)
            os.chown(parent, *self.owner)
        staged.replace(path)


def compose_definition(tree: Path) -> dict[str, Any]:
    """The project in `tree` as Compose understands it, variables filled in."""
    done = subprocess.run(
        [
            "docker",
            "compose",
            "--project-directory",
            str(tree),
            "--profile",
            "*",
            "config",
            "--format",
            "json",
        ],
        capture_output=True,
        text=True,
        timeout=VALIDATOR_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise FilesError(f"Compose refuses the project: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def validate(
    tree: Path, definition: dict[str, Any] | None, service: str, command: list[str], docker_config: str | None
) -> None:
    """Run a command in the image of a service over the staged tree, without network; raises FilesError."""
    if definition is None:
        raise FilesError(f"no service {service!r} to validate with")
    environment = {
        name: str(value).replace("$$", "$") for name, value in (definition.get("environment") or {}).items()
    }
    run = ["docker", "run", "--rm", "--network", "none", "--cap-drop", "ALL"]
    for name in environment:
        run += ["--env", name]
    for volume in definition.get("volumes") or []:
        source = volume.get("source", "")
        if volume.get("type") == "bind" and Path(source).is_relative_to(tree) and Path(source).exists():
            run += ["--volume", f"{source}:{volume['target']}:ro"]
    if definition.get("user"):
        run += ["--user", str(definition["user"])]
    run += ["--entrypoint", command[0], definition["image"], *command[1:]]
    done = subprocess.run(
        run,
        capture_output=True,
        text=True,
        timeout=VALIDATOR_TIMEOUT,
        check=False,
        env={**os.environ, **environment, **({"DOCKER_CONFIG": docker_config} if docker_config else {})},
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        for value in environment.values():
            said = said.replace(value, HIDDEN) if len(value) > len(HIDDEN) else said
        raise FilesError(f"{service} refuses its configuration ({' '.join(command)}): {said}")


def run_validators(
    tree: Tree,
    files: list[Entry],
    contents: dict[str, bytes],
    *,
    due: list[Validator],
    docker_config: str | None,
) -> None:
    """Check files in a complete copy of the tree; raises FilesError."""
    copy = tree.staging / "tree"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(mode=0o700)
    try:
        for entry in files:
            target = copy / entry["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(mode=0o600)
            target.write_bytes(contents[entry["path"]])
            os.chown(target, entry["uid"], entry["gid"])
            target.chmod(entry["mode"])
        services = compose_definition(copy)["services"]
        for item in due:
            name = item["service"]
            validate(copy, services.get(name), name, item["command"], docker_config)
    finally:
        shutil.rmtree(copy)


def apply(module: AnsibleModule) -> dict[str, Any]:
    """Compare, then write; returns the module's result."""
    parameters = module.params
    root = Path(parameters["root"])
    files: list[Entry] = parameters["files"]
    contents = {path: base64.b64decode(text) for path, text in json.loads(parameters["payload"]).items()}
    tree = Tree(root, parameters["name"], parameters["root_uid"], parameters["root_gid"])
    check = module.check_mode

    diffs: list[Diff] = []
    changed_directories = []
    root_wanted = (parameters["root_mode"], parameters["root_uid"], parameters["root_gid"])
    if ensure_directory(root, root_wanted, check):
        changed_directories.append(str(root))
    for directory in parameters["directories"]:
        if ensure_directory(below(root, directory["path"]), wanted_attributes(directory), check):
            changed_directories.append(directory["path"])

    written = tree.written()
    changed: list[Entry] = []
    for entry in files:
        path = below(root, entry["path"])
        before = read_regular(path)
        if before != contents[entry["path"]] or attributes(path) != wanted_attributes(entry):
            changed.append(entry)
            diffs.append(difference(path, entry, written.get(entry["path"]), before, contents[entry["path"]]))
    wanted = {entry["path"]: Shown(hidden=entry["hidden"], masked=entry["masked"]) for entry in files}
    stale = [path for path in written if path not in wanted and read_regular(below(root, path)) is not None]
    for name in stale:
        header = str(root / name)
        diffs.append(Diff(before_header=header, after_header=header, before=f"{HIDDEN}\n", after=""))
    changed_paths = [entry["path"] for entry in changed]
    due: list[Validator] = [
        item
        for item in parameters["validators"]
        if any(path.startswith(item["path"]) for path in changed_paths)
    ]
    result = {
        "changed": bool(changed or stale or changed_directories),
        "changed_paths": changed_paths,
        "changed_directories": changed_directories,
        "removed_paths": stale,
        "validated": [item["path"] for item in due],
        "diff": diffs,
    }
    if check:
        return result

    tree.staging.mkdir(mode=0o700, exist_ok=True)
    with fenced(parameters["fence"]), (root / STAGING / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if due:
            run_validators(tree, files, contents, due=due, docker_config=parameters["docker_config"])
        staged = [
            (entry, tree.stage(entry["path"], contents[entry["path"]], wanted_attributes(entry)))
            for entry in changed
        ]
        tree.remember(written | wanted)
        for entry, temporary in staged:
            tree.replace(root / entry["path"], temporary)
        for name in stale:
            (root / name).unlink()
        tree.remember(wanted)
    return result


def main() -> None:
    """Entry point of the module."""
    entries = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "root_mode": {"type": "int", "required": True},
            "root_uid": {"type": "int", "required": True},
            "root_gid": {"type": "int", "required": True},
            "name": {"type": "str", "required": True},
            "directories": entries,
            "files": entries,
            "payload": {"type": "str", "required": True, "no_log": True},
            "validators": entries,
            "docker_config": {"type": "path"},
            "fence": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    # Directories above the root are for everybody to pass, whatever the host's hardening says of new files.
    os.umask(0o022)
    try:
        module.exit_json(**apply(module))
    except (FilesError, FencedError, OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
