"""What may run, on the real registry, hosts and databases (IMG-2, IMG-4, DEP-4)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from infra import local
from infra.outputs.model import StackOutputs
from infra.outputs.read import read_outputs
from infra.record import open_record
from infra.release import environment
from infra.release.environment import check_release
from infra.release.model import SCHEMA_LABEL, HostImage
from infra.release.registry import NotFoundError, UnreachableError
from infra.release.retention import kept
from infra.release.signature import UnsignedError
from infra.secrets import generators
from reference.agents_service.revision import REVISION
from tests.releases import ABSENT, CUSTOMIZE, UNSIGNED, WRONG_SCHEMA, Recipe, Releases, good, releases
from tests.running import STACK, command, machine
from tests.waiting import eventually

pytestmark = pytest.mark.system

PLAYBOOK = "tests/system/release.yml"
MACHINES = {place.name: place for place in local.MACHINES}
CONTAINER = "icupa-x-release"


def later(name: str, kind: str) -> Recipe:
    """A release with one more migration."""
    migration = (
        f"from alembic import op\nrevision, down_revision = '9001', {REVISION!r}\n{kind}\n"
        "def upgrade():\n    op.execute('SELECT 1')\n"
    )
    return Recipe(
        name,
        {
            CUSTOMIZE: "from agents_service import revision\nrevision.REVISION = '9001'\n",
            "app/agents_service/migrations/versions/rev_9001.py": migration,
        },
        {SCHEMA_LABEL: "9001"},
    )


EXPANDING = later("expanding", "kind = 'expand'")
CONTRACTING = later("contracting", f"kind, ends = 'contract', ({REVISION!r},)")


@pytest.fixture(scope="module")
def outputs() -> StackOutputs:
    return read_outputs(STACK)


@pytest.fixture(scope="module")
def made() -> Iterator[Releases]:
    with releases() as found:
        yield found


@pytest.fixture
def tidy(outputs: StackOutputs) -> Iterator[None]:
    """Hosts have the images afterwards that they are meant to have."""
    yield
    for host in MACHINES:
        shell(host, f"docker rm --force {CONTAINER}")
    play(prune=True)


def shell(host: str, script: str) -> str:
    """Output of a script on a host, as root."""
    return machine(MACHINES[host]).shell(script)


def play(*options: str, **what: Any) -> str:
    """Output of the playbook, which must end well."""
    done = attempt(*options, **what)
    assert done[0] == 0, done[1]
    return done[1]


def attempt(*options: str, **what: Any) -> tuple[int, str]:
    """Exit code and output of the playbook."""
    extra = ["ansible-playbook", PLAYBOOK, "-e", f"stack={STACK}", "-e", json.dumps(what)]
    done = command([*extra, *options])
    return done.returncode, done.stdout + done.stderr


def images(host: str) -> set[str]:
    """Names by digest of all images on a host, of every repository."""
    listed = shell(host, "docker image ls --digests --no-trunc --format '{{.Repository}}@{{.Digest}}'")
    return set(listed.split())


def digests(outputs: StackOutputs, host: str) -> set[str]:
    """Digests of the release's repository on a host."""
    found = (name.partition("@") for name in images(host))
    return {digest for repository, _, digest in found if repository == outputs.release.image}


def checked(made: Releases, digest: str) -> dict[str, Any]:
    """What release_check returns."""
    found = check_release(made.outputs, STACK, digest, {})
    return found.model_dump()


def test_digest_tag_and_commit_lead_to_the_same_verified_image(outputs: StackOutputs) -> None:
    release = outputs.release
    for asked in (release.digest, "latest", release.git_sha, release.git_sha[:8]):
        found = check_release(outputs, STACK, asked, {})
        assert (found.digest, found.git_sha) == (release.digest, release.git_sha), asked
        assert (found.verified, found.schema_revision, found.local) == ("signature", REVISION, False)


def test_what_is_not_signed_or_not_there_is_refused(
    made: Releases, outputs: StackOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsignedError, match="is not signed"):
        check_release(outputs, STACK, made.make(UNSIGNED), {})
    with pytest.raises(NotFoundError, match=f"release {ABSENT}: {outputs.release.image} has no manifests/"):
        check_release(outputs, STACK, ABSENT, {})
    other = generators.public_key_pem(generators.ec_key())
    monkeypatch.setattr(environment, "_public_key", lambda *_: other)
    with pytest.raises(UnsignedError, match="not with this environment's key"):
        check_release(outputs, STACK, outputs.release.digest, {})


def test_the_record_stands_in_for_a_registry_that_is_down(outputs: StackOutputs) -> None:
    last = open_record(outputs.record).state().release
    on_hosts = {host: [HostImage(digest, digest) for digest in digests(outputs, host)] for host in MACHINES}
    registry = docker.from_env().containers.get(local.REGISTRY.container)
    registry.stop()
    try:
        found = check_release(outputs, STACK, last.git_sha, on_hosts)
        assert (found.digest, found.verified, found.local) == (last.digest, "record", True)
        with pytest.raises(
            UnreachableError, match=r"does not answer.*only the registry knows what a tag means"
        ):
            check_release(outputs, STACK, "latest", on_hosts)
    finally:
        registry.start()
    eventually(lambda: answers(outputs), "the registry answers again", 60)


def answers(outputs: StackOutputs) -> bool:
    """Whether the registry answers."""
    try:
        return check_release(outputs, STACK, outputs.release.digest, {}).verified == "signature"
    except UnreachableError:
        return False


@pytest.mark.usefixtures("tidy")
def test_hosts_get_a_release_and_lose_only_old_ones_of_its_repository(
    made: Releases, outputs: StackOutputs
) -> None:
    before = {host: images(host) for host in MACHINES}
    old, used = made.make(good("an old one")), made.make(good("one in use"))
    play(pull=[old, used])
    for host in MACHINES:
        assert {old, used} <= digests(outputs, host)
    shell("primary", f"docker create --name {CONTAINER} {outputs.release.image}@{used}")
    foretold = play("--check", prune=True)
    assert "standby: would remove the image of an old release" in foretold
    assert {old, used} <= digests(outputs, "standby"), "a dry run removes nothing"
    said = play(prune=True)
    assert "primary: left" in said
    assert images("primary") == before["primary"] | {f"{outputs.release.image}@{used}"}
    assert images("standby") == before["standby"]
    stays = set(kept(open_record(outputs.record).state()))
    assert digests(outputs, "standby") <= stays


@pytest.mark.usefixtures("tidy")
def test_a_contract_and_a_wrong_schema_are_refused_before_a_slot_starts(made: Releases) -> None:
    contracting, expanding, wrong = (made.make(recipe) for recipe in (CONTRACTING, EXPANDING, WRONG_SCHEMA))
    play(pull=[contracting, expanding, wrong])
    code, said = attempt("--check", judge=checked(made, contracting))
    assert code != 0
    assert f"migration 9001 ends schema revision {REVISION}, which" in said
    assert "that release runs on primary: first deploy a release that does without it" in " ".join(
        said.split()
    )
    said = play("--check", judge=checked(made, expanding))
    assert "standby: migrations to run: 9001 (expand)" in said
    code, said = attempt("--check", judge=checked(made, wrong))
    assert code != 0
    assert "this release needs schema revision 9999, which none of its migrations" in " ".join(said.split())
    for host in MACHINES:
        assert "icupa-migration-plan" not in shell(host, "docker ps --all --format '{{.Names}}'")


def test_smoke_runs_inside_the_host_and_shows_its_token_to_nobody() -> None:
    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            for host in MACHINES:
                seen.update(shell(host, "ps -eo args --no-headers -ww").splitlines())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        said = play(run={"command": "smoke"})
    finally:
        stop.set()
        looker.join()
    assert said.count("ok   voucher written and read back") == len(MACHINES)
    runs = [line for line in seen if "docker exec" in line and "=icupa-smoke" in line]
    assert runs, "nobody looked while it ran"
    assert all("--env SMOKE_TOKEN " in line for line in runs)
    assert not [line for line in seen if "eyJ" in line]
    assert "eyJ" not in said


def test_a_command_that_does_not_end_is_ended_and_leaves_no_container() -> None:
    code, said = attempt("--check", run={"command": "flags_list", "timeout": 0.3})
    assert code != 0
    assert "`flags list` of the release did not end within 0 s" in said
    for host in MACHINES:
        assert "icupa-flags-list" not in shell(host, "docker ps --all --format '{{.Names}}'")


def test_vector_stores_are_brought_up_to_date_once() -> None:
    play(run={"command": "sync_vector_stores"})
    said = play(run={"command": "sync_vector_stores"})
    assert said.count("added 0, removed 0") == 3 * len(MACHINES)
