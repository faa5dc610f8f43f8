"""What is known of a release before it runs, and the labels that its image says it with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

GIT_SHA_LABEL = "org.opencontainers.image.revision"
"""Label of an image: the commit it was built from."""
SCHEMA_LABEL = "dev.icupa.schema.revision"
"""Label of an image: the schema revision that its code needs."""
IMAGES_FACT = "icupa_release_images"
"""Fact of a host: the images of the release's repository that it has."""
MACHINES = "machines"
"""Inventory's group of all hosts."""
UNKNOWN = "unknown"
"""Commit of an image without the label."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHORT = 12
_WHOLE_COMMIT = 40
ACCEPTED = "a digest sha256:<64 hexadecimal digits>, a tag, or the 7 to 40 first digits of a commit"


class ReleaseError(Exception):
    """What was asked for can't be released; the message says what was asked, where, and what was found."""


class Kind(StrEnum):
    """How a release was named."""

    DIGEST = "digest"
    TAG = "tag"
    COMMIT = "commit"
    """May be a tag too: images are tagged with their commit."""


@dataclass(frozen=True)
class Request:
    """What an operator asked for; `text` is without the repository."""

    kind: Kind
    text: str

    @property
    def whole_commit(self) -> bool:
        """Whether all digits of a commit are given."""
        return self.kind is Kind.COMMIT and len(self.text) == _WHOLE_COMMIT


class Checked(BaseModel):
    """A release that may run: `image` without tag or digest; `local`: its image is on every host."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    digest: str
    git_sha: str
    schema_revision: str | None
    verified: Literal["signature", "record"]
    local: bool
    note: str = ""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read what the action `release_check` returned. Raises ReleaseError."""
        try:
            return cls.model_validate({name: raw[name] for name in cls.model_fields if name in raw})
        except ValidationError as error:
            wrong = ", ".join(str(item["loc"][0]) for item in error.errors())
            raise ReleaseError(f"release: not what release_check returns, see {wrong}") from None

    @property
    def reference(self) -> str:
        """`image@digest`, as engines pull it."""
        return f"{self.image}@{self.digest}"


@dataclass(frozen=True)
class HostImage:
    """An image of the release's repository on a host; `containers` are those that were made of it."""

    digest: str
    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> HostImage:
        """Read what the module `release_images` returns."""
        labels = {str(name): str(value) for name, value in (raw.get("labels") or {}).items()}
        return cls(str(raw["digest"]), str(raw["id"]), labels, tuple(map(str, raw.get("containers") or ())))


def host_images(
    variables: Mapping[str, Any], hosts: Iterable[str] | None = None
) -> dict[str, list[HostImage]]:
    """Images by host, all machines unless said otherwise, as `release_images` found them in this run.

    `variables` are those of an Ansible task. A host that was not asked has none.
    """
    known = variables["hostvars"]
    names = variables["groups"][MACHINES] if hosts is None else hosts
    return {
        name: [
            HostImage.parse(entry)
            for entry in json.loads(json.dumps(known[name].get("ansible_facts", {}).get(IMAGES_FACT) or []))
        ]
        for name in names
    }


def parse_request(text: str, image: str) -> Request:
    """Understand the name of a release of the repository `image`.

    Raises:
        ReleaseError: it is none; the message says what is accepted.
    """
    asked = text.strip()
    name = asked.removeprefix(f"{image}@").removeprefix(f"{image}:") if asked != image else ""
    if "/" in name:
        raise ReleaseError(
            f"release: found {asked!r}, of another repository; accepted: {ACCEPTED}, of {image}"
        )
    if _DIGEST.fullmatch(name):
        return Request(Kind.DIGEST, name)
    if _COMMIT.fullmatch(name):
        return Request(Kind.COMMIT, name)
    if _TAG.fullmatch(name):
        return Request(Kind.TAG, name)
    raise ReleaseError(f"release: found {asked!r}; accepted: {ACCEPTED}")


def short(digest: str) -> str:
    """A digest as people tell it apart: `sha256:` and its first digits."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:_SHORT]}"
