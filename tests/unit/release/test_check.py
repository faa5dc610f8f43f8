"""What an operator names becomes a verified digest, or is refused with what was asked and found."""

from __future__ import annotations

import json

import httpx
import pytest

from infra.release.check import Known, check, from_record
from infra.release.model import HostImage, Kind, ReleaseError, parse_request
from infra.release.registry import Login, NotFoundError, RegistryAuth, Repository, UnreachableError
from infra.release.signature import UnsignedError
from tests import oci
from tests.unit.release.conftest import (
    COMMIT,
    HOST,
    IMAGE,
    LOGIN,
    OTHER_COMMIT,
    PATH,
    To,
    push,
    release,
)

DIGEST = f"sha256:{'1' * 64}"
NOTHING = Known([], {})


def accept(image: str, digest: str) -> None:
    """A signature that verifies."""


def on_hosts(*digests: str) -> dict[str, list[HostImage]]:
    images = [HostImage(digest, f"id-{digest}", {"dev.icupa.schema.revision": "0007"}) for digest in digests]
    return {"primary": images, "standby": images}


@pytest.mark.parametrize(
    ("asked", "kind", "text"),
    [
        (DIGEST, Kind.DIGEST, DIGEST),
        (f"{IMAGE}@{DIGEST}", Kind.DIGEST, DIGEST),
        (f"{IMAGE}:latest", Kind.TAG, "latest"),
        ("v1.2", Kind.TAG, "v1.2"),
        (COMMIT, Kind.COMMIT, COMMIT),
        (f" {COMMIT[:7]} ", Kind.COMMIT, COMMIT[:7]),
        (COMMIT[:6], Kind.TAG, COMMIT[:6]),
    ],
)
def test_a_name_is_understood(asked: str, kind: Kind, text: str) -> None:
    request = parse_request(asked, IMAGE)
    assert (request.kind, request.text) == (kind, text)


@pytest.mark.parametrize(
    "asked", ["", "  ", IMAGE, "sha256:12", "a b", f"other.example/x@{DIGEST}", "sha512:" + "a" * 128, "-x"]
)
def test_another_name_is_refused_before_anybody_is_asked(
    asked: str, registry: oci.Registry, repository: Repository
) -> None:
    with pytest.raises(ReleaseError, match="accepted: a digest sha256:"):
        check(asked, repository, accept, NOTHING)
    assert registry.asked == []


@pytest.mark.parametrize("asked", ["latest", COMMIT, COMMIT[:9], "{digest}", IMAGE + "@{digest}"])
def test_digest_tag_and_commit_lead_to_the_image(
    asked: str, registry: oci.Registry, repository: Repository
) -> None:
    digest = push(registry, COMMIT, "latest", "a", "b", "c")
    push(registry, OTHER_COMMIT)
    verified: list[str] = []
    found = check(
        asked.format(digest=digest),
        repository,
        lambda image, of: verified.append(f"{image}@{of}"),
        Known([], on_hosts(DIGEST)),
    )
    assert found.reference == f"{IMAGE}@{digest}"
    assert (found.git_sha, found.schema_revision) == (COMMIT, "0001")
    assert (found.verified, found.local) == ("signature", False)
    assert verified == [found.reference]


def test_an_image_on_every_host_is_local(registry: oci.Registry, repository: Repository) -> None:
    digest = push(registry, COMMIT)
    assert check(digest, repository, accept, Known([], on_hosts(digest))).local
    one = {**on_hosts(digest), "standby": []}
    assert not check(digest, repository, accept, Known([], one)).local


def test_a_beginning_that_several_commits_have_is_refused(
    registry: oci.Registry, repository: Repository
) -> None:
    push(registry, COMMIT)
    push(registry, OTHER_COMMIT)
    with pytest.raises(
        ReleaseError, match=f"release 0123456: .*{COMMIT} .*{OTHER_COMMIT} .*give more digits"
    ):
        check("0123456", repository, accept, NOTHING)


def test_a_commit_is_found_on_a_later_page_of_tags(registry: oci.Registry, repository: Repository) -> None:
    digest = push(registry, "f" * 40, "a", "b", "c", "d", "e")
    assert check("fffffff", repository, accept, NOTHING).digest == digest
    assert len([asked for asked in registry.asked if "/tags/list" in asked]) > 2


def test_two_tags_of_one_image_are_not_ambiguous(registry: oci.Registry, repository: Repository) -> None:
    digest = push(registry, COMMIT, COMMIT[:10])
    assert check(COMMIT[:8], repository, accept, NOTHING).digest == digest


def test_a_tag_that_names_another_commits_image_is_refused(
    registry: oci.Registry, repository: Repository
) -> None:
    push(registry, OTHER_COMMIT, COMMIT)
    with pytest.raises(ReleaseError, match=f"the tag {COMMIT} names an image of commit {OTHER_COMMIT}"):
        check(COMMIT, repository, accept, NOTHING)


def test_what_is_not_there_is_said_with_what_is(registry: oci.Registry, repository: Repository) -> None:
    push(registry, COMMIT, "latest", "sha256-0123")
    with pytest.raises(NotFoundError) as refused:
        check("stable", repository, accept, NOTHING)
    assert str(refused.value) == (
        f"release stable: {IMAGE} has no manifests/stable (MANIFEST_UNKNOWN); its tags: {COMMIT}, latest"
    )
    with pytest.raises(NotFoundError, match=f"{IMAGE} has no manifests/{DIGEST}"):
        check(DIGEST, repository, accept, NOTHING)
    with pytest.raises(NotFoundError, match="no tag that begins with abcdef0"):
        check("abcdef0", repository, accept, NOTHING)


def test_an_index_has_the_labels_of_its_image(registry: oci.Registry, repository: Repository) -> None:
    image = push(registry, COMMIT)
    index = json.dumps(
        {
            "manifests": [
                {"digest": DIGEST, "platform": {"architecture": "unknown", "os": "unknown"}},
                {"digest": image, "platform": {"architecture": "amd64", "os": "linux"}},
            ]
        }
    ).encode()
    digest = registry.put_manifest(PATH, ["both"], "application/vnd.oci.image.index.v1+json", index)
    found = check("both", repository, accept, NOTHING)
    assert (found.digest, found.git_sha) == (digest, COMMIT)


def test_another_content_than_asked_for_is_not_believed(
    registry: oci.Registry, repository: Repository
) -> None:
    push(registry, COMMIT, "latest")
    registry.manifests[(PATH, DIGEST)] = registry.manifests[(PATH, "latest")]
    with pytest.raises(ReleaseError, match=f"where {DIGEST} was asked for"):
        check(DIGEST, repository, accept, NOTHING)


def test_a_wrong_login_is_said_to_be_one(registry: oci.Registry) -> None:
    push(registry, COMMIT, "latest")
    with (
        httpx.Client(transport=To(registry), auth=RegistryAuth(Login("icupa", "wrong"))) as client,
        pytest.raises(ReleaseError, match="refuses the environment's login") as refused,
    ):
        check("latest", Repository(IMAGE, client), accept, NOTHING)
    assert "wrong" not in str(refused.value)


def test_a_registry_with_tokens_is_asked_with_one() -> None:
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((str(request.url), request.headers.get("Authorization", "")))
        if request.url.host == "login.example":
            return httpx.Response(200, json={"token": "a-token"})
        if request.headers.get("Authorization") != "Bearer a-token":
            realm = 'Bearer realm="https://login.example/token",service="r",scope="repository:x:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": realm})
        return httpx.Response(200, json={"tags": ["one"]})

    with httpx.Client(transport=httpx.MockTransport(answer), auth=RegistryAuth(LOGIN)) as client:
        repository = Repository(IMAGE, client)
        assert repository.tags() == ["one"]
        assert repository.tags() == ["one"]
    assert asked[1] == (
        "https://login.example/token?service=r&scope=repository%3Ax%3Apull",
        LOGIN.authorization(),
    )
    assert len(asked) == 4, "the token is used again"


def test_the_login_goes_to_no_realm_without_tls() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="http://login.example/token"'})

    with (
        httpx.Client(transport=httpx.MockTransport(answer), auth=RegistryAuth(LOGIN)) as client,
        pytest.raises(ReleaseError, match="refuses"),
    ):
        Repository(IMAGE, client).tags()
    assert len(asked) == 1


class TestWithoutTheRegistry:
    """A good release of the record whose image is on every host needs nobody."""

    @pytest.fixture
    def silent(self) -> Repository:
        def answer(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused", request=request)

        return Repository(IMAGE, httpx.Client(transport=httpx.MockTransport(answer)))

    @pytest.mark.parametrize("asked", [DIGEST, COMMIT, COMMIT[:7]])
    def test_the_record_stands_in(self, asked: str, silent: Repository) -> None:
        found = check(asked, silent, refuse, Known([release(DIGEST)], on_hosts(DIGEST)))
        assert (found.digest, found.git_sha, found.verified) == (DIGEST, COMMIT, "record")
        assert (found.local, found.schema_revision) == (True, "0007")
        assert f"the registry {HOST} does not answer: connection refused" in found.note

    @pytest.mark.parametrize(
        ("asked", "known", "why"),
        [
            (
                "latest",
                Known([release(DIGEST)], on_hosts(DIGEST)),
                "only the registry knows what a tag means",
            ),
            (DIGEST, Known([], on_hosts(DIGEST)), "the record knows no such release"),
            (DIGEST, Known([release(DIGEST)], {}), "no host was looked at"),
            (DIGEST, Known([release(DIGEST)], {**on_hosts(DIGEST), "standby": []}), "it is not on standby"),
            (
                COMMIT,
                Known([release(DIGEST), release(f"sha256:{'2' * 64}")], on_hosts(DIGEST)),
                "the record knows several releases of it",
            ),
        ],
    )
    def test_what_it_can_not_stand_in_for(
        self, asked: str, known: Known, why: str, silent: Repository
    ) -> None:
        with pytest.raises(UnreachableError, match=f"release {asked}: the registry {HOST} does.*{why}"):
            check(asked, silent, accept, known)

    def test_a_registry_that_answers_an_error_is_silent_too(
        self, registry: oci.Registry, repository: Repository
    ) -> None:
        registry.status = 503
        with pytest.raises(UnreachableError, match="answers 503"):
            check(DIGEST, repository, accept, NOTHING)

    def test_a_rollback_to_what_is_recorded_asks_nobody(self) -> None:
        known = Known([release(DIGEST)], on_hosts(DIGEST))
        found = from_record(COMMIT[:7], IMAGE, known)
        assert found is not None
        assert (found.reference, found.verified) == (f"{IMAGE}@{DIGEST}", "record")

    def test_a_rollback_to_anything_else_is_looked_up(self) -> None:
        digest = f"sha256:{'2' * 64}"
        known = Known([release(DIGEST, OTHER_COMMIT)], on_hosts(DIGEST, digest))
        assert from_record(digest, IMAGE, known) is None
        assert from_record("latest", IMAGE, known) is None
        with pytest.raises(ReleaseError, match="accepted: a digest"):
            from_record("sha256:1", IMAGE, known)

    def test_a_deploy_is_verified_although_the_record_knows_it(
        self, registry: oci.Registry, repository: Repository
    ) -> None:
        digest = push(registry, COMMIT)
        with pytest.raises(UnsignedError):
            check(digest, repository, refuse, Known([release(digest)], on_hosts(digest)))


def refuse(image: str, digest: str) -> None:
    raise UnsignedError(f"{image}@{digest} is not signed")
