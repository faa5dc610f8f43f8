"""Backups in the record's store: `backups/<id>/part-<number>`, and `manifest.json`, which completes one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import pyrage  # type: ignore[import-untyped]

from infra.backup.model import BackupError, Manifest, check_id
from infra.record import ConflictError, NotFoundError, Store

PREFIX = "backups"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a stored backup."""

    what: str


def _part_key(name: str, number: int) -> str:
    return f"{PREFIX}/{check_id(name)}/part-{number:05d}"


def _manifest_key(name: str) -> str:
    return f"{PREFIX}/{check_id(name)}/{MANIFEST}"


def listed(store: Store) -> list[str]:
    """Names of the backups that are complete, oldest first."""
    return sorted(key.split("/")[1] for key in store.list(PREFIX) if key.endswith(f"/{MANIFEST}"))


def put_part(store: Store, manifest: Manifest, number: int, data: bytes) -> None:
    """Store one part; raises BackupError where it is not what the manifest says."""
    part = manifest.parts[number]
    if (len(data), hashlib.sha256(data).hexdigest()) != (part.size, part.sha256):
        raise BackupError(f"{manifest.id}: part {number} was changed on its way, or on the host")
    key = _part_key(manifest.id, number)
    try:
        store.put_if_absent(key, data)
    except ConflictError:
        if store.get(key).data != data:
            raise BackupError(f"{key} in {store.url} is another part than this one") from None


def save(store: Store, manifest: Manifest) -> None:
    """Store the manifest: from now on there is a backup."""
    store.put_if_absent(_manifest_key(manifest.id), manifest.encode())


def load(store: Store, name: str) -> Manifest:
    """Manifest of a stored backup; raises BackupError."""
    try:
        found = Manifest.parse(store.get(_manifest_key(name)).data)
        if found.id != name:
            raise BackupError(f"its manifest is that of {found.id}")
        return found
    except (ValueError, NotFoundError, BackupError) as error:
        there = ", ".join(listed(store)) or "none"
        raise BackupError(f"no backup {name} in {store.url} ({error}); there are: {there}") from None


class _Stored(io.RawIOBase):
    """The encrypted file, read part by part; notes what is wrong with each."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        super().__init__()
        self._parts = self._read_parts(store, manifest)
        self._left = b""
        self.problems: list[Problem] = []
        self.whole = hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The next octets."""
        while not self._left:
            found = next(self._parts, None)
            if found is None:
                return 0
            self._left = found
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def _read_parts(self, store: Store, manifest: Manifest) -> Iterator[bytes]:
        for number, part in enumerate(manifest.parts):
            key = _part_key(manifest.id, number)
            try:
                data = store.get(key).data
            except NotFoundError:
                self.problems.append(Problem(f"{key} is missing"))
                continue
            if hashlib.sha256(data).hexdigest() != part.sha256:
                self.problems.append(Problem(f"{key} was changed: its checksum does not fit"))
            self.whole.update(data)
            yield data


class _Hashing(io.RawIOBase):
    """Takes what is written, keeps its checksum only."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Count these octets in."""
        self.digest.update(data)
        return len(data)


def check(store: Store, manifest: Manifest, identity: str) -> list[Problem]:
    """Read all of it: checksums of parts and whole, and that the identity opens what was dumped."""
    stored, plain = _Stored(store, manifest), _Hashing()
    try:
        pyrage.decrypt_io(stored, plain, [pyrage.x25519.Identity.from_str(identity.strip())])
    except (pyrage.DecryptError, pyrage.IdentityError, OSError) as error:
        stored.problems.append(Problem(f"it can't be decrypted: {error}"))
    while stored.read(1 << 20):
        # What is behind the place where it could not be decrypted has checksums all the same.
        pass
    if not stored.problems and stored.whole.hexdigest() != manifest.sha256:
        stored.problems.append(Problem("the checksum of the whole does not fit"))
    if not stored.problems and plain.digest.hexdigest() != manifest.plain_sha256:
        stored.problems.append(Problem("what is in it is not what was dumped"))
    return stored.problems


def drop_unfinished(store: Store) -> list[str]:
    """Remove parts of backups that never got a manifest; their names. Only while no other is being taken."""
    complete = set(listed(store))
    keys = [key for key in store.list(PREFIX) if key.split("/")[1] not in complete]
    for key in keys:
        store.delete(key)
    return sorted({key.split("/")[1] for key in keys})


def prune(store: Store, keep: int) -> list[str]:
    """Remove all but the newest; returns the names of those removed."""
    names = listed(store)
    old = names[: max(0, len(names) - keep)]
    for name in old:
        # The manifest first: what is left of a removal that was killed is no backup any more.
        store.delete(_manifest_key(name))
        for key in store.list(f"{PREFIX}/{name}"):
            store.delete(key)
    return old
