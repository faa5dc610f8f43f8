"""Releases for tests: what is put into the registry, and that each is broken in the way it says."""

from __future__ import annotations

import gzip
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra import paths
from infra.registry import RELEASE_PATH
from infra.release.model import GIT_SHA_LABEL, SCHEMA_LABEL
from infra.release.registry import Login, RegistryAuth
from tests import oci, releases
from tests.releases import CUSTOMIZE, Recipe, RegistryError, Repository, derive, digest_of, good

PATH = "icupa/agents-service"
LABELS = {GIT_SHA_LABEL: "f" * 40, SCHEMA_LABEL: "0001", "title": "agents"}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[oci.Registry]:
    with oci.serve(tmp_path, "registry.example") as served:
        yield served


@pytest.fixture
def repository(registry: oci.Registry) -> Iterator[Repository]:
    trust = ssl.create_default_context(cadata=registry.trust)
    auth = RegistryAuth(Login(oci.USER, oci.PASSWORD))
    with httpx.Client(verify=trust, auth=auth) as client:
        yield Repository(f"{registry.address}/{PATH}", client)


@pytest.fixture
def original(registry: oci.Registry, repository: Repository) -> str:
    digest = registry.push(PATH, ["latest"], LABELS)
    kind, manifest = repository.manifest(digest)
    configuration = repository.configuration(manifest)
    configuration["config"]["Env"] = ["PATH=/opt/venv/bin", "GIT_SHA=" + "f" * 40]
    configuration["config"]["Entrypoint"] = ["python", "-m", "agents_service"]
    text = json.dumps(configuration).encode()
    described = {**manifest["config"], "digest": repository.put_blob(text), "size": len(text)}
    return repository.put_manifest(kind, "true", json.dumps({**manifest, "config": described}).encode())


def test_a_good_release_is_the_same_image_of_another_commit(repository: Repository, original: str) -> None:
    one, other = (derive(repository, original, good(name)) for name in ("one", "other"))
    assert len({original, one, other}) == 3
    before, after = repository.manifest(original)[1], repository.manifest(one)[1]
    assert after["layers"] == before["layers"]
    was, now = repository.configuration(before), repository.configuration(after)
    sha = good("one").git_sha
    assert now["config"]["Labels"] == {**LABELS, GIT_SHA_LABEL: sha}
    assert now["config"]["Env"] == ["PATH=/opt/venv/bin", f"GIT_SHA={sha}"]
    assert {key: now[key] for key in now if key != "config"} == {
        key: was[key] for key in was if key != "config"
    }
    assert now["config"]["Entrypoint"] == was["config"]["Entrypoint"]
    assert repository.manifest(sha)[1] == after


def test_the_same_recipe_gives_the_same_digest(
    registry: oci.Registry, repository: Repository, original: str
) -> None:
    first = derive(repository, original, releases.NEVER_HEALTHY)
    registry.asked.clear()
    assert derive(repository, original, releases.NEVER_HEALTHY) == first
    assert not [line for line in registry.asked if "uploads" in line]


def test_a_broken_release_has_one_layer_more(
    registry: oci.Registry, repository: Repository, original: str
) -> None:
    recipe = Recipe("broken", {CUSTOMIZE: "broken = True\n"}, {SCHEMA_LABEL: "9999"})
    _, manifest = repository.manifest(derive(repository, original, recipe))
    configuration = repository.configuration(manifest)
    (layer,) = manifest["layers"]
    packed = registry.blobs[layer["digest"]]
    assert layer["size"] == len(packed)
    assert configuration["rootfs"]["diff_ids"] == [digest_of(gzip.decompress(packed))]
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.mode, member.uid) == (CUSTOMIZE, 0o644, 0)
    assert configuration["config"]["Labels"][SCHEMA_LABEL] == "9999"


def test_an_image_behind_an_index_is_found(
    registry: oci.Registry, repository: Repository, original: str
) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    entries = [
        {"digest": "sha256:0", "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": original, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    index = registry.put_manifest(PATH, [], kind, json.dumps({"manifests": entries}).encode())
    assert derive(repository, index, good("one")) == derive(repository, original, good("one"))


def test_what_the_registry_refuses_is_said(repository: Repository) -> None:
    with pytest.raises(RegistryError, match=r"404 .*MANIFEST_UNKNOWN"):
        derive(repository, releases.ABSENT, good("one"))


PRELUDE = """
import asyncio, time
class Store:
    async def supported_revisions(self):
        return frozenset({"0001"})
"""
CHECK = f"""{PRELUDE}
from agents_service import app
print(asyncio.run(app._check_database(Store())))
"""


def python(directory: Path, recipe: Recipe, script: str, *, serving: bool = True) -> list[str]:
    """Command of a script that finds the service and what the recipe puts beside it."""
    (directory / "agents_service").symlink_to(paths.REPOSITORY / RELEASE_PATH)
    for path, text in recipe.files.items():
        (directory / Path(path).name).write_text(text)
    return [sys.executable, "-c", script, *(["serve"] if serving else [])]


def ran(directory: Path, command: list[str], seconds: float = 30) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (good("one"), "{'database': 'ok', 'schema': 'ok'}"),
        (releases.FAILING_SMOKE, "{'database': 'ok', 'schema': 'ok'}"),
        (releases.NEVER_HEALTHY, "{'database': 'unreachable', 'schema': 'unknown'}"),
        (releases.WRONG_SCHEMA, "{'database': 'ok', 'schema': 'revision 9999 is missing'}"),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else "",
)
def test_readiness(tmp_path: Path, recipe: Recipe, said: str) -> None:
    done = ran(tmp_path, python(tmp_path, recipe, CHECK))
    assert done.stdout.strip() == said, done.stderr


def test_a_crash_comes_after_it_was_ready(tmp_path: Path) -> None:
    script = f"{CHECK}print('ready', flush=True)\ntime.sleep(20)\nprint('still there')"
    done = ran(tmp_path, python(tmp_path, releases.crashing(0.5), script))
    assert done.returncode == 1
    assert done.stdout.endswith("ready\n")


def test_a_hanging_start_does_nothing(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as hung:
        ran(tmp_path, python(tmp_path, releases.HANGING_START, "print('up', flush=True)"), 2)
    assert not hung.value.stdout


def test_only_a_look_up_fails_the_smoke(tmp_path: Path) -> None:
    script = f"""{PRELUDE}
from agents_service.tools import Tools
async def main():
    for name in ("create_voucher", "get_voucher", "lookup_customer"):
        try:
            await getattr(Tools, name)(None, None, None)
        except Exception as error:
            print(name, str(error) == "broken on purpose")
asyncio.run(main())
"""
    done = ran(tmp_path, python(tmp_path, releases.FAILING_SMOKE, script))
    assert done.stdout.split() == [
        "create_voucher",
        "False",
        "get_voucher",
        "False",
        "lookup_customer",
        "True",
    ]


@pytest.mark.parametrize(
    "recipe",
    [releases.NEVER_HEALTHY, releases.HANGING_START, releases.FAILING_SMOKE, releases.crashing(0.1)],
    ids=lambda recipe: recipe.name,
)
def test_other_commands_of_a_broken_release_work(tmp_path: Path, recipe: Recipe) -> None:
    script = f"{CHECK}time.sleep(0.3)\nprint('done')"
    done = ran(tmp_path, python(tmp_path, recipe, script, serving=False))
    assert done.stdout == "{'database': 'ok', 'schema': 'ok'}\ndone\n", done.stderr
