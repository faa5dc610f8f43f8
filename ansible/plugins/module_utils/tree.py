"""A tree of files on a host, seen before anything in it is written."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath


class FilesError(Exception):
    """The tree can't be made what it must be; nothing was replaced."""


def below(root: Path, path: str) -> Path:
    """Path below the root; refuses escapes, also by symbolic links on the way."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise FilesError(f"{path!r} does not stay below {root}")
    current = root
    for part in pure.parts[:-1]:
        current /= part
        if current.is_symlink():
            raise FilesError(f"{current} is a symbolic link: refusing to write through it")
    return root.joinpath(pure)


def attributes(path: Path) -> tuple[int, int, int] | None:
    """Mode, uid, gid; None where there is nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def read_regular(path: Path) -> bytes | None:
    """Content of a regular file, None where there is nothing; refuses everything else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise FilesError(f"{path} exists and is not a regular file")
    return path.read_bytes()


def ensure_directory(path: Path, wanted: tuple[int, int, int], check: bool) -> bool:
    """Make one directory what it must be; True where it was not."""
    found = attributes(path)
    if found == wanted and path.is_dir() and not path.is_symlink():
        return False
    if found is not None and (path.is_symlink() or not path.is_dir()):
        raise FilesError(f"{path} exists and is not a directory")
    if not check:
        path.mkdir(mode=wanted[0], parents=True, exist_ok=True)
        os.chown(path, wanted[1], wanted[2])
        path.chmod(wanted[0])
    return True
