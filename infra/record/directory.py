"""Store driver: a directory on a local file system."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.record.errors import ConflictError, NotFoundError, StoreUnavailableError
from infra.record.store import Stored, check_key

_LOCK = ".lock"
_STAGED = ".staged"
_LOCK_TIMEOUT = 30.0
_LOCK_POLL = 0.002


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DirectoryStore:
    """Objects as files, mode 0600, below one directory, mode 0700.

    Writers take turns by `flock` on one file, which the kernel frees when its holder dies, stage the object
    in one file and rename it into place after fsync: a writer killed at any moment leaves the old object or
    the new one, and no lock. Readers need no turn. The file system must be local.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def url(self) -> str:
        """`file://` URL of the directory."""
        return f"file://{self._root}"

    def get(self, key: str) -> Stored:
        """See `Store.get`."""
        data = self._read(self._path(key))
        if data is None:
            raise NotFoundError(f"{self.url} has no object {key}")
        return Stored(data, _version(data))

    def put_if_absent(self, key: str, data: bytes) -> str:
        """See `Store.put_if_absent`."""
        path = self._path(key)
        with self._turn():
            if path.exists():
                raise ConflictError(f"{key} exists already in {self.url}")
            self._replace(path, data)
        return _version(data)

    def put_if_match(self, key: str, data: bytes, version: str) -> str:
        """See `Store.put_if_match`."""
        path = self._path(key)
        with self._turn():
            current = self._read(path)
            if current is None or _version(current) != version:
                raise ConflictError(f"{key} in {self.url} is no longer the version that was read")
            self._replace(path, data)
        return _version(data)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        path = self._path(key)
        with self._turn():
            try:
                path.unlink(missing_ok=True)
                if path.parent.is_dir():
                    _sync_directory(path.parent)
            except OSError as error:
                raise self._unavailable(error) from error

    def list(self, prefix: str) -> list[str]:
        """See `Store.list`."""
        start = self._root / check_key(prefix) if prefix else self._root
        try:
            return sorted(
                path.relative_to(self._root).as_posix()
                for path in start.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            )
        except OSError as error:
            raise self._unavailable(error) from error

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error

    def _replace(self, path: Path, data: bytes) -> None:
        staged = self._root / _STAGED
        try:
            self._make_parents(path.parent)
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            staged.rename(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise self._unavailable(error) from error

    def _make_parents(self, path: Path) -> None:
        if path.is_dir():
            return
        self._make_parents(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(path.parent)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            self._wait_for_lock(descriptor)
            yield
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        f"store {self.url} is not available: another writer has held {_LOCK}"
                        f" for {_LOCK_TIMEOUT:.0f} s (find it: fuser {self._root / _LOCK})"
                    ) from None
                time.sleep(_LOCK_POLL)
            except OSError as error:
                raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(f"store {self.url} is not available: {error.strerror or error}")
