"""From what an operator asked for to a digest that may run: found and verified (IMG-2, IMG-4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.record import Release
from infra.release.model import (
    GIT_SHA_LABEL,
    SCHEMA_LABEL,
    UNKNOWN,
    Checked,
    HostImage,
    Kind,
    ReleaseError,
    Request,
    parse_request,
    short,
)
from infra.release.registry import Image, NotFoundError, Repository, UnreachableError

_TAGS_SHOWN = 10
_SIGNATURES = "sha256-"
"""What cosign's own tags begin with."""


@dataclass(frozen=True)
class Known:
    """What is known without the registry.

    `good` are releases of the record, newest first: each was verified by its signature before it ran, and a
    digest names no other image ever. `on_hosts` says which images every host has.
    """

    good: Sequence[Release]
    on_hosts: Mapping[str, Sequence[HostImage]]

    def missing(self, digest: str) -> list[str]:
        """Hosts without the image."""
        return [
            host
            for host, images in sorted(self.on_hosts.items())
            if not any(image.digest == digest for image in images)
        ]

    def labels(self, digest: str) -> Mapping[str, str]:
        """Labels of an image that some host has."""
        for images in self.on_hosts.values():
            for image in images:
                if image.digest == digest:
                    return image.labels
        return {}

    def matching(self, request: Request) -> list[Release]:
        """Good releases that a request may mean, each digest once."""
        found: dict[str, Release] = {}
        for release in self.good:
            if request.text == release.digest or (
                request.kind is Kind.COMMIT and release.git_sha.startswith(request.text)
            ):
                found.setdefault(release.digest, release)
        return list(found.values())


def from_record(asked: str, image: str, known: Known) -> Checked | None:
    """The release, if the record knows it as good and it is on every host: nobody else has to be asked.

    Raises:
        ReleaseError: it is not the name of a release.
    """
    return _recorded(parse_request(asked, image), image, known)


def check(asked: str, repository: Repository, verify: Callable[[str, str], None], known: Known) -> Checked:
    """Find and verify a release; `verify` gets image and digest and raises where they are not signed.

    Where the registry does not answer, a release that `from_record` knows is the way out.

    Raises:
        ReleaseError: with what was asked for, where, and what was found.
    """
    request = parse_request(asked, repository.image)
    try:
        image = _find(request, repository)
        verify(repository.image, image.digest)
    except UnreachableError as error:
        if recorded := _recorded(request, repository.image, known):
            return recorded.model_copy(update={"note": f"{error}; it is a good release, and on every host"})
        raise UnreachableError(
            f"release {asked}: {error}. Without the registry: {_why_not(request, known)}"
        ) from error
    except NotFoundError as error:
        raise NotFoundError(f"release {asked}: {error}{_what_there_is(request, repository)}") from error
    except ReleaseError as error:
        raise type(error)(f"release {asked}: {error}") from error
    return Checked(
        image=repository.image,
        digest=image.digest,
        git_sha=image.labels.get(GIT_SHA_LABEL) or UNKNOWN,
        schema_revision=image.labels.get(SCHEMA_LABEL),
        verified="signature",
        local=bool(known.on_hosts) and not known.missing(image.digest),
    )


def _find(request: Request, repository: Repository) -> Image:
    if request.kind is not Kind.COMMIT:
        return repository.image_of(request.text)
    # Also a tag can look like the beginning of a commit.
    tags = [request.text] if request.whole_commit else _tags_beginning_with(request.text, repository)
    images = {tag: repository.image_of(tag) for tag in tags}
    if len({image.digest for image in images.values()}) > 1:
        listed = ", ".join(f"{tag} ({short(image.digest)})" for tag, image in images.items())
        raise ReleaseError(f"{repository.image} has several that it may mean: {listed}; give more digits")
    if not images:
        raise NotFoundError(f"{repository.image} has no tag that begins with {request.text}")
    tag, image = next(iter(images.items()))
    built_from = image.labels.get(GIT_SHA_LABEL)
    if built_from and not built_from.startswith(request.text):
        raise ReleaseError(
            f"the tag {tag} names an image of commit {built_from} ({short(image.digest)}); give its digest"
            " if it is meant"
        )
    return image


def _tags_beginning_with(text: str, repository: Repository) -> list[str]:
    return [tag for tag in repository.tags() if tag.startswith(text)]


def _recorded(request: Request, image: str, known: Known) -> Checked | None:
    found = known.matching(request)
    if len(found) != 1 or not known.on_hosts or known.missing(found[0].digest):
        return None
    release = found[0]
    return Checked(
        image=image,
        digest=release.digest,
        git_sha=release.git_sha,
        schema_revision=known.labels(release.digest).get(SCHEMA_LABEL),
        verified="record",
        local=True,
    )


def _why_not(request: Request, known: Known) -> str:
    found = known.matching(request)
    if len(found) > 1:
        listed = ", ".join(short(release.digest) for release in found)
        return f"the record knows several releases of it ({listed}); give the digest"
    if found:
        hosts = ", ".join(known.missing(found[0].digest)) or "no host was looked at"
        return f"the record knows {short(found[0].digest)} as good, but it is not on {hosts}"
    if request.kind is Kind.TAG:
        return "only the registry knows what a tag means; give a digest or a commit"
    there = dict.fromkeys(
        f"{short(release.digest)} ({release.git_sha[:7]})"
        for release in known.good
        if known.on_hosts and not known.missing(release.digest)
    )
    return f"the record knows no such release; good ones on every host: {', '.join(there) or 'none'}"


def _what_there_is(request: Request, repository: Repository) -> str:
    if request.kind is Kind.DIGEST:
        return ""
    try:
        tags = [tag for tag in repository.tags() if not tag.startswith(_SIGNATURES)]
    except ReleaseError:
        return ""
    if not tags:
        return "; the repository is empty"
    more = f" and {len(tags) - _TAGS_SHOWN} more" if len(tags) > _TAGS_SHOWN else ""
    return f"; its tags: {', '.join(tags[:_TAGS_SHOWN])}{more}"
