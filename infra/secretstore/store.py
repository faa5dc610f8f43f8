"""The secret store: values by name, encrypted in the record's store; public parts in clear beside them."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import yaml

from infra.paths import is_local
from infra.record import ConflictError, NotFoundError, Store, Stored
from infra.secrets import references
from infra.secrets.catalogue import CATALOGUE
from infra.secretstore import sops
from infra.secretstore.errors import (
    IdentityError,
    MissingSecretError,
    SecretStoreError,
    TamperedError,
    UnknownSecretError,
)

OBJECT = "secrets.sops.yaml"
"""Key of the encrypted file in the record's store."""

PUBLIC = "public"
"""Folder of the public objects in the record's store."""

NEXT = "next"
"""Key of a secret's staged value, `PREVIOUS` of the one before: {value, issued, …}, the value encrypted."""
PREVIOUS = "previous"

_SCHEMA = 1
_TRIES = 20


@dataclass(frozen=True)
class Entry:
    """What is known of a stored secret without its value.

    `issued`, `next`, `previous`: its issuer's names of the value in use, of one that is staged to take its
    place, and of the one whose place it took; None where there is none, or nobody knows it.
    """

    name: str
    created_at: datetime
    by: str
    issued: str | None = None
    next: str | None = None
    previous: str | None = None


@dataclass(frozen=True)
class Staged:
    """A value and its issuer's name of it."""

    value: str = field(repr=False)
    issued: str


class SecretStore(Protocol):
    """What every driver offers. Values are kept in this process's memory only."""

    def get(self, name: str) -> str:
        """Value of a secret; `MissingSecretError` says how to set it."""
        ...

    def get_many(self, names: Iterable[str]) -> dict[str, str]:
        """Values of several secrets; the error names all that are missing."""
        ...

    def resolve(self, text: str) -> str:
        """A text with its references replaced by values."""
        ...

    def put(self, name: str, value: str, *, by: str) -> None:
        """Set or replace a value, and the public objects that follow; what it is already keeps its age."""
        ...

    def put_many(self, values: Mapping[str, str], *, by: str) -> None:
        """Set or replace several values in one write."""
        ...

    def entries(self) -> dict[str, Entry]:
        """What is stored, without values; needs no identity."""
        ...

    def public(self, name: str) -> str:
        """A public object; needs no identity."""
        ...


def check_name(name: str) -> str:
    """Return a name of the catalogue.

    Raises:
        UnknownSecretError: for any other; the message has the nearest names.
    """
    if name in CATALOGUE:
        return name
    near = difflib.get_close_matches(name, CATALOGUE, n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else f"; there are: {', '.join(CATALOGUE)}"
    raise UnknownSecretError(f"no secret is called {name!r}{hint}")


class SopsStore:
    """Driver: one file encrypted by SOPS for age recipients, an object of the record's store.

    Written by reading, changing and a conditional write, so that two writers never lose each other's value.
    """

    def __init__(self, store: Store, stack: str, recipients: tuple[str, ...] = ()) -> None:
        self._store = store
        self._stack = stack
        self._recipients = recipients
        self._cache: tuple[str, dict[str, Any]] | None = None

    @property
    def where(self) -> str:
        """URL of the encrypted file."""
        return f"{self._store.url}/{OBJECT}"

    def get(self, name: str) -> str:
        """See `SecretStore.get`."""
        return self.get_many((name,))[name]

    def get_many(self, names: Iterable[str]) -> dict[str, str]:
        """See `SecretStore.get_many`."""
        wanted = [check_name(name) for name in names]
        known = self._secrets() if wanted else {}
        missing = [name for name in wanted if name not in known]
        if missing:
            raise self._missing(missing)
        return {name: str(known[name]["value"]) for name in wanted}

    def values(self) -> dict[str, tuple[str, ...]]:
        """Every value of every secret: the one in use first, then those before and after it."""
        return {
            name: tuple(
                str(each["value"]) for each in (item, item.get(NEXT), item.get(PREVIOUS)) if each is not None
            )
            for name, item in self._secrets().items()
        }

    def resolve(self, text: str) -> str:
        """See `SecretStore.resolve`."""
        values = self.get_many(references.find(text))
        return references.resolve(text, values.__getitem__)

    def put(self, name: str, value: str, *, by: str) -> None:
        """See `SecretStore.put`."""
        self.put_many({name: value}, by=by)

    def put_many(self, values: Mapping[str, str], *, by: str) -> None:
        """See `SecretStore.put_many`."""
        self._change(lambda _: dict(values), by)

    def put_absent(self, generate: Mapping[str, Callable[[], str]], *, by: str) -> list[str]:
        """Generate and store those that have no value yet, in one write; returns their names."""
        made: dict[str, str] = {}

        def change(known: Mapping[str, Any]) -> dict[str, str]:
            for name, make in generate.items():
                if name in known:
                    made.pop(name, None)
                elif name not in made:
                    made[name] = make()
            return made

        self._change(change, by)
        return sorted(made)

    def next(self, name: str) -> Staged | None:
        """The value that is staged to take the place of the one in use."""
        return self._other(name, NEXT)

    def staged(self, names: Iterable[str]) -> dict[str, str]:
        """Values that are staged, of those names that have one."""
        known = self._secrets()
        return {name: str(known[name][NEXT]["value"]) for name in names if NEXT in known.get(name, {})}

    def previous(self, name: str) -> Staged | None:
        """The value whose place the one in use took, until it is forgotten."""
        return self._other(name, PREVIOUS)

    def stage(self, name: str, staged: Staged, *, by: str) -> None:
        """Keep a value beside the one in use; the same one again changes nothing.

        Raises:
            SecretStoreError: another one is staged, or one before it is not forgotten yet.
        """
        _check_value(check_name(name), staged.value)
        for derive in CATALOGUE[name].public.values():
            _check_derivable(name, staged.value, derive)

        def change(item: dict[str, Any]) -> bool:
            found = item.get(NEXT)
            if found is not None and found["issued"] == staged.issued and found["value"] == staged.value:
                return False
            if found is not None or PREVIOUS in item:
                raise self._rotating(name)
            item[NEXT] = {"value": staged.value, "created_at": _now(), "by": by, "issued": staged.issued}
            return True

        self._change_items({name: change})

    def unstage(self, name: str) -> None:
        """Drop the staged value; nothing where there is none."""
        self._change_items({name: lambda item: item.pop(NEXT, None) is not None})

    def promote(self, staged: Mapping[str, str]) -> None:
        """Staged values take the places of those in use, which stay as the previous ones: all or none.

        `staged` is the issuer's name of each. What is promoted already stays. The age is the new value's.

        Raises:
            SecretStoreError: something else is staged.
        """

        def change(name: str, issued: str) -> Callable[[dict[str, Any]], bool]:
            def promoted(item: dict[str, Any]) -> bool:
                found = item.get(NEXT)
                if found is None and item.get("issued") == issued:
                    return False
                if found is None or found["issued"] != issued:
                    raise SecretStoreError(
                        f"{self.where}: {issued} is not the value of {name} that is staged"
                    )
                item[PREVIOUS] = {key: item[key] for key in ("value", "issued") if key in item}
                item.update(item.pop(NEXT))
                return True

            return promoted

        self._change_items({name: change(name, issued) for name, issued in staged.items()})

    def forget(self, name: str) -> None:
        """Drop the previous value; nothing where there is none."""
        self._change_items({name: lambda item: item.pop(PREVIOUS, None) is not None})

    def entries(self) -> dict[str, Entry]:
        """See `SecretStore.entries`."""
        document = self._parse(self._read())
        return {
            name: Entry(
                name,
                datetime.fromisoformat(item["created_at"]),
                item["by"],
                item.get("issued"),
                item.get(NEXT, {}).get("issued"),
                item[PREVIOUS].get("issued", "") if PREVIOUS in item else None,
            )
            for name, item in document.get("secrets", {}).items()
        }

    def version(self) -> str | None:
        """Version of the encrypted file, None where there is none."""
        stored = self._read()
        return stored.version if stored else None

    def public(self, name: str) -> str:
        """See `SecretStore.public`."""
        try:
            return self._store.get(f"{PUBLIC}/{name}").data.decode()
        except NotFoundError:
            raise MissingSecretError(
                f"{self._store.url} has no public object {name}; it is written together with the secret it"
                f" follows from{self._how_to_prepare()}"
            ) from None

    def put_public(self, name: str, text: str) -> None:
        """Write a public object unless it is there with this text."""
        key, data = f"{PUBLIC}/{name}", text.encode()
        for _ in range(_TRIES):
            try:
                stored = self._store.get(key)
            except NotFoundError:
                write = self._create(key, data)
            else:
                if stored.data == data:
                    return
                write = self._replace(key, data, stored.version)
            if write:
                return
        raise SecretStoreError(f"{key} in {self._store.url} is being changed by others all the time")

    def write_derived(self) -> None:
        """Write every public object that follows from a stored value and is not there."""
        for name, item in self._secrets().items():
            if name in CATALOGUE:
                self._write_public_parts(name, str(item["value"]))

    def _write_public_parts(self, name: str, value: str) -> None:
        for public, derive in CATALOGUE[name].public.items():
            self.put_public(public, derive(value).rstrip("\n") + "\n")

    def _change(self, change: Callable[[Mapping[str, Any]], Mapping[str, str]], by: str) -> None:
        """Set values in one write; what is set to what it is already stays as young as it is."""

        def set_values(secrets: dict[str, Any]) -> dict[str, str] | None:
            values = change(secrets)
            for name, value in values.items():
                _check_value(check_name(name), value)
                for derive in CATALOGUE[name].public.values():
                    _check_derivable(name, value, derive)
                found = secrets.get(name, {})
                # Set again, so that the file is encrypted for others: the value is no younger for it.
                if found.get("value") == value:
                    continue
                if NEXT in found or PREVIOUS in found:
                    raise self._rotating(name)
                secrets[name] = {"value": value, "created_at": _now(), "by": by}
            return dict(values) or None

        self._write(set_values)

    def _change_items(self, changes: Mapping[str, Callable[[dict[str, Any]], bool]]) -> None:
        """Change stored secrets in place, all in one write; none where no change says that it did."""

        def change_items(secrets: dict[str, Any]) -> dict[str, str] | None:
            if missing := [name for name in changes if check_name(name) not in secrets]:
                raise self._missing(missing)
            changed = [name for name, change in changes.items() if change(secrets[name])]
            return {name: str(secrets[name]["value"]) for name in changed} or None

        self._write(change_items)

    def _write(self, change: Callable[[dict[str, Any]], dict[str, str] | None]) -> None:
        """Read, change, write where nobody wrote in between.

        `change` changes the secrets and says which values are in use after it, None where nothing is to be
        written.
        """
        for _ in range(_TRIES):
            stored = self._read()
            encrypted = self._parse(stored)
            document = copy.deepcopy(self._decrypt(stored))
            values = change(document["secrets"])
            if values is None:
                return
            recipients = self._recipients_of(encrypted, document)
            if stored is None:
                self._check_reader(recipients)
            # In clear, but under the file's authentication code, which SOPS's own list of them is not.
            document["recipients"] = list(recipients)
            data = sops.encrypt(document, recipients)
            written = self._replace(OBJECT, data, stored.version) if stored else self._create(OBJECT, data)
            if written:
                for name, value in values.items():
                    self._write_public_parts(name, value)
                return
        raise SecretStoreError(f"{self.where} is being changed by others all the time; try again")

    def _other(self, name: str, key: str) -> Staged | None:
        item = self._secrets().get(check_name(name))
        if item is None:
            raise self._missing([name])
        found = item.get(key)
        return None if found is None else Staged(str(found["value"]), str(found.get("issued", "")))

    def _rotating(self, name: str) -> SecretStoreError:
        return SecretStoreError(
            f"{self.where}: {name} is being rotated; run that command again, it ends it:"
            f" ansible-playbook ansible/playbooks/rotate.yml -e stack={self._stack} -e secret={name}"
        )

    def _recipients_of(self, encrypted: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, ...]:
        """Who may read the next version: those configured, else those of this one, unless smuggled in."""
        if self._recipients:
            return self._recipients
        stored = tuple(item["recipient"] for item in encrypted.get("sops", {}).get("age") or ())
        if set(document.get("recipients", stored)) != set(stored):
            raise TamperedError(
                f"{self.where}: its list of recipients was changed by something else than this command;"
                " name those that are right in icupa:secretstore.recipients"
            )
        return stored or (sops.find_identity(self._stack).recipient(),)

    def _check_reader(self, recipients: tuple[str, ...]) -> None:
        """Refuse to make a file that who makes it could neither read nor change any more."""
        identity = sops.find_identity(self._stack)
        own = identity.recipients()
        if not set(own) & set(recipients):
            raise IdentityError(
                f"age identity {identity.source} is none of icupa:secretstore.recipients: put its public key,"
                f" {own[0]}, into the list"
            )

    def _create(self, key: str, data: bytes) -> bool:
        try:
            self._store.put_if_absent(key, data)
        except ConflictError:
            return False
        return True

    def _replace(self, key: str, data: bytes, version: str) -> bool:
        try:
            self._store.put_if_match(key, data, version)
        except ConflictError:
            return False
        return True

    def _read(self) -> Stored | None:
        try:
            return self._store.get(OBJECT)
        except NotFoundError:
            return None

    def _parse(self, stored: Stored | None) -> dict[str, Any]:
        if stored is None:
            return {"secrets": {}}
        try:
            document = yaml.safe_load(stored.data)
        except yaml.YAMLError:
            document = None
        if not isinstance(document, dict) or "sops" not in document or "secrets" not in document:
            raise TamperedError(f"{self.where} is not a file of SOPS")
        return document

    def _secrets(self) -> dict[str, Any]:
        secrets: dict[str, Any] = self._decrypt(self._read())["secrets"]
        return secrets

    def _decrypt(self, stored: Stored | None) -> dict[str, Any]:
        if stored is None:
            return {"schema": _SCHEMA, "secrets": {}}
        if self._cache is None or self._cache[0] != stored.version:
            try:
                document = sops.decrypt(stored.data, sops.find_identity(self._stack))
            except SecretStoreError as error:
                raise type(error)(f"{self.where}: {error}") from error
            self._cache = (stored.version, document)
        return self._cache[1]

    def _missing(self, names: list[str]) -> MissingSecretError:
        lines = [f"no value in {self.where} for: {', '.join(names)}{self._how_to_prepare()}"]
        for name in names:
            secret = CATALOGUE[name]
            lines.append(
                f"  {name}: {secret.what}, from {secret.issuer};"
                f" set it with: python -m infra.secretstore set {name} --stack {self._stack} < FILE"
            )
        return MissingSecretError("\n".join(lines))

    def _how_to_prepare(self) -> str:
        if is_local(self._stack):
            return f" (python -m infra.secretstore prepare --stack {self._stack} generates all)"
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_value(name: str, value: str) -> None:
    if not value.strip():
        raise SecretStoreError(f"the value of {name} is empty")
    if "\0" in value:
        raise SecretStoreError(f"the value of {name} holds a NUL character")


def _check_derivable(name: str, value: str, derive: Callable[[str], str]) -> None:
    try:
        derive(value)
    except ValueError:
        # The library's message may quote the value.
        raise SecretStoreError(
            f"the value of {name} is not what it must be: {CATALOGUE[name].what}"
        ) from None
