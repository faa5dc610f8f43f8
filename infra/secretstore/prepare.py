"""Makes the secrets of a local stack: idempotent, killable at any moment, quick when nothing is to do."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra import local, paths
from infra.secrets import catalogue
from infra.secrets.catalogue import CATALOGUE
from infra.secretstore import mounts, open_store, pki, sops
from infra.secretstore.errors import IdentityError, MissingSecretError, SecretConfigError
from infra.secretstore.mounts import MOUNTS, Mount
from infra.secretstore.store import SopsStore

_PRIVATE_DIRECTORY = 0o700
_STAMP = "prepared.json"
_STAGED = ".staged"
_BY = "prepare"
_AUTHORITY_NAME = "ICUPA local world CA"
_ACME_NAME = "ICUPA local ACME CA"


@dataclass(frozen=True)
class Prepared:
    """What a run did; all empty when there was nothing to do."""

    identity: bool
    secrets: tuple[str, ...]
    certificates: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was made."""
        return self.identity or bool(self.secrets or self.certificates or self.files)


class _Values:
    """Source of mounted files: everything decrypted once."""

    def __init__(self, store: SopsStore) -> None:
        self._store = store

    def secret(self, name: str) -> str:
        return self._store.get(name)

    def public(self, name: str) -> str:
        return self._store.public(name)


def prepare(stack: str) -> Prepared:
    """Make whatever of a local stack's identity, secrets, certificates and mounted files is missing or wrong.

    Raises:
        SecretConfigError: the stack is not a local one.
        IdentityError: there are encrypted secrets, but the identity that opens them is gone.
    """
    if not paths.is_local(stack):
        raise SecretConfigError(
            f"stack {stack} is not local: python -m infra.secretstore generate --stack {stack} makes what we"
            f" issue ourselves, operators put in the rest: set NAME --stack {stack} < FILE"
        )
    for private in (paths.state_home(), paths.stack_home(stack)):
        _make_directory(private, None)
    with _alone(stack):
        store = open_store({}, stack)
        if _is_prepared(stack, store):
            return Prepared(False, (), (), ())
        identity = _make_identity(stack, store)
        secrets = store.put_absent({name: item.generate for name, item in CATALOGUE.items()}, by=_BY)
        store.write_derived()
        certificates = _make_certificates(store)
        values = _Values(store)
        files = [mount.path(stack) for mount in MOUNTS if _materialise(mount, stack, values)]
        _write(paths.stack_home(stack) / _STAMP, json.dumps(_stamp(stack, store)), 0o600, None)
        return Prepared(identity, tuple(secrets), tuple(certificates), tuple(files))


@contextmanager
def _alone(stack: str) -> Iterator[None]:
    descriptor = os.open(paths.stack_home(stack) / ".prepare.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_directory(path: Path, uid: int | None) -> None:
    path.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    found = path.stat()
    if stat.S_IMODE(found.st_mode) != _PRIVATE_DIRECTORY:
        path.chmod(_PRIVATE_DIRECTORY)
    if uid is not None and found.st_uid != uid:
        os.chown(path, uid, -1)


def _write(path: Path, text: str, mode: int, uid: int | None) -> None:
    staged = path.parent / _STAGED
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if uid is not None:
            os.fchown(descriptor, uid, -1)
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    staged.rename(path)


def _make_identity(stack: str, store: SopsStore) -> bool:
    path = sops.local_identity(stack)
    if path.exists():
        return False
    if store.version() is not None:
        if any(identity for _, identity in sops.identity_sources(stack)):
            return False
        raise IdentityError(
            f"{store.where} holds secrets, but {path}, which opens them, is gone: put it back, or remove the"
            f" whole stack ({paths.stack_home(stack)}) to begin anew"
        )
    _write(path, sops.new_identity()[0], 0o600, None)
    return True


def _make_certificates(store: SopsStore) -> list[str]:
    made: list[str] = []
    ca_key = store.get("world-ca-key")
    ca = _public_or_empty(store, catalogue.WORLD_CA_CERTIFICATE)
    if not pki.fits(ca, ca_key, ca) or pki.depth(ca) != pki.AUTHORITY_DEPTH:
        ca = pki.authority(ca_key, _AUTHORITY_NAME)
        store.put_public(catalogue.WORLD_CA_CERTIFICATE, ca)
        made.append(catalogue.WORLD_CA_CERTIFICATE)
    for party in catalogue.TLS_PARTIES:
        name, key = catalogue.tls_certificate(party.name), store.get(catalogue.tls_key(party.name))
        if not pki.fits(_public_or_empty(store, name), key, ca, party.host, party.address):
            store.put_public(name, pki.certificate(key, party.host, party.address, ca, ca_key))
            made.append(name)
    acme_key = store.get(catalogue.ACME_KEY)
    if not pki.fits(_public_or_empty(store, catalogue.ACME_CERTIFICATE), acme_key, ca):
        store.put_public(catalogue.ACME_CERTIFICATE, pki.intermediate(acme_key, _ACME_NAME, ca, ca_key))
        made.append(catalogue.ACME_CERTIFICATE)
    return made


def _public_or_empty(store: SopsStore, name: str) -> str:
    try:
        return store.public(name)
    except MissingSecretError:
        return ""


def _materialise(mount: Mount, stack: str, values: _Values) -> bool:
    """Write a file unless it is right already; whether it was written."""
    path = mount.path(stack)
    for parent in (path.parent.parent, path.parent):
        _make_directory(parent, mount.uid if parent == path.parent else None)
    found = _facts(path)
    current = path.read_text() if found else ""
    keep = mount.keep is not None and mount.keep(current, values)
    text = current if keep else mount.render(values)
    if found == _facts_of(text.encode(), mount):
        return False
    _write(path, text, mount.mode, mount.uid)
    return True


def _facts_of(data: bytes, mount: Mount) -> list[Any]:
    uid = os.geteuid() if mount.uid is None else mount.uid
    return [hashlib.sha256(data).hexdigest(), mount.mode, uid]


def _facts(path: Path) -> list[Any] | None:
    """Digest, mode and owner of a regular file."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return None
        return [hashlib.sha256(path.read_bytes()).hexdigest(), stat.S_IMODE(found.st_mode), found.st_uid]
    except FileNotFoundError:
        return None


def _public_names() -> list[str]:
    derived = [name for secret in CATALOGUE.values() for name in secret.public]
    return [
        *derived,
        catalogue.WORLD_CA_CERTIFICATE,
        catalogue.ACME_CERTIFICATE,
        *(catalogue.tls_certificate(party.name) for party in catalogue.TLS_PARTIES),
    ]


def _definition() -> str:
    """Digest of what decides about the result: the code of this package and the names it goes by."""
    digest = hashlib.sha256()
    packages = (Path(__file__).parent, Path(catalogue.__file__).parent)
    modules = [module for package in packages for module in sorted(package.glob("*.py"))]
    for module in (*modules, Path(local.__file__)):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _stamp(stack: str, store: SopsStore) -> dict[str, Any]:
    publics = {name: store.public(name) for name in _public_names()}
    certificates = [text for text in publics.values() if "BEGIN CERTIFICATE" in text]
    return {
        "definition": _definition(),
        "secrets": store.version(),
        "public": hashlib.sha256(json.dumps(publics).encode()).hexdigest(),
        "renew_at": min(pki.renew_at(text) for text in certificates).isoformat(),
        "identity": _facts(sops.local_identity(stack)),
        "files": {f"{mount.consumer}/{mount.name}": _facts(mount.path(stack)) for mount in MOUNTS},
        "directories": {
            consumer: stat.S_IMODE(mounts.directory(stack, consumer).stat().st_mode)
            for consumer in sorted({mount.consumer for mount in MOUNTS})
        },
    }


def _is_prepared(stack: str, store: SopsStore) -> bool:
    """Whether everything is as the last complete run left it; needs neither identity nor SOPS."""
    try:
        stamp = json.loads((paths.stack_home(stack) / _STAMP).read_text())
        if datetime.fromisoformat(stamp["renew_at"]) <= datetime.now(UTC):
            return False
        return bool(stamp == _stamp(stack, store))
    except (FileNotFoundError, ValueError, KeyError, MissingSecretError):
        return False
