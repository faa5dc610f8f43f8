"""Releases for tests: the true image of the service under another commit, or with one thing broken.

Each is the image that the program built, from the environment's registry, with another commit in its
configuration and, where it is broken, one thin layer on top. It is put beside the original by the registry's
API and signed as the program signs; nothing is built, no engine is asked. The same recipe of the same image
has the same digest, so that what was made once is only found again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from infra import local
from infra.outputs.model import StackOutputs
from infra.outputs.read import read_outputs
from infra.providers.attest import Origin, Registry, SigningKey, attest
from infra.registry import SOURCE
from infra.release.environment import check_release
from infra.release.model import GIT_SHA_LABEL, SCHEMA_LABEL, Checked
from infra.release.registry import Login, RegistryAuth
from infra.release.signature import UnsignedError
from infra.secretstore import open_store
from infra.site.secrets import open_resolver
from infra.smoke.checks import Smoke
from infra.smoke.client import web
from infra.smoke.target import find_target
from infra.toolchain.environment import BUILDER
from tests.running import STACK

CUSTOMIZE = "app/sitecustomize.py"
"""Python reads it before anything else: it lies where the image's PYTHONPATH points."""
_SIGNING = ("image-signing-key", "image-signing-password")
_KINDS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_LAYERS = {
    _KINDS[0]: "application/vnd.oci.image.layer.v1.tar+gzip",
    _KINDS[1]: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


@dataclass(frozen=True)
class Recipe:
    """A release: files by path below `/`, and labels; `name` makes its commit, and so its digest."""

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    signed: bool = True

    @property
    def git_sha(self) -> str:
        """Commit, 40 hexadecimal digits."""
        return hashlib.sha1(self.name.encode(), usedforsecurity=False).hexdigest()


def good(name: str) -> Recipe:
    """The true service as another commit."""
    return Recipe(name)


def _when_serving(*lines: str) -> dict[str, str]:
    body = "".join(f"    {line}\n" for line in lines)
    return {CUSTOMIZE: f'import sys\n\nif "serve" in sys.orig_argv:\n{body}'}


NEVER_HEALTHY = Recipe(
    "never healthy",
    _when_serving(
        "from agents_service import app",
        "async def _never(_store):",
        '    return {"database": "unreachable", "schema": "unknown"}',
        "app._check_database = _never",
    ),
)
"""Alive, but never ready."""
HANGING_START = Recipe("hanging start", _when_serving("import threading", "threading.Event().wait()"))
"""Its process neither listens nor ends; as the first of its container it has no handler for SIGTERM."""
FAILING_SMOKE = Recipe(
    "failing smoke",
    _when_serving(
        "from agents_service import tools",
        "async def _broken(*_arguments):",
        '    raise RuntimeError("broken on purpose")',
        "tools.Tools.lookup_customer = _broken",
    ),
)
"""Ready, and right in all that the load asks; only looking up a customer fails."""
WRONG_SCHEMA = Recipe(
    "wrong schema",
    {CUSTOMIZE: 'from agents_service import revision\n\nrevision.REVISION = "9999"\n'},
    {SCHEMA_LABEL: "9999"},
)
"""Needs a schema that nothing makes, says so in its label, and is never ready."""
UNSIGNED = Recipe("unsigned", signed=False)
"""The true service, without a signature."""
ABSENT = f"sha256:{hashlib.sha256(b'absent').hexdigest()}"
"""A digest that is in no registry."""


def crashing(seconds: float = 1.0) -> Recipe:
    """Ends with status 1, again after every restart, `seconds` after it was first ready."""
    return Recipe(
        f"healthy, then crashing after {seconds:g} s",
        _when_serving(
            "import os, threading",
            "from agents_service import app",
            "_check, _fuse = app._check_database, []",
            "async def _once(store):",
            "    checks = await _check(store)",
            '    if not _fuse and all(state == "ok" for state in checks.values()):',
            f"        _fuse.append(threading.Timer({seconds!r}, os._exit, [1]))",
            "        _fuse[0].daemon = True",
            "        _fuse[0].start()",
            "    return checks",
            "app._check_database = _once",
        ),
    )


class RegistryError(Exception):
    """The registry does not do as it is asked; the message says what."""


class Repository:
    """One repository of a registry, for reading and writing; `client` knows address, trust and login."""

    def __init__(self, image: str, client: httpx.Client) -> None:
        self.image = image
        host, _, path = image.partition("/")
        self._base = f"https://{host}/v2/{path}"
        self._client = client

    def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        response = self._client.request(method, url, **options)
        if not response.is_success:
            raise RegistryError(f"{method} {url}: {response.status_code} {response.text[:200]}")
        return response

    def manifest(self, digest: str) -> tuple[str, dict[str, Any]]:
        """Media type and manifest of an image; of an index, of its image for real platforms."""
        accept = {"Accept": ", ".join((*_KINDS, *_LISTS))}
        document: dict[str, Any] = self._ask("GET", f"{self._base}/manifests/{digest}", headers=accept).json()
        if "manifests" in document:
            images = [item for item in document["manifests"] if item["platform"]["os"] != "unknown"]
            return self.manifest(images[0]["digest"])
        return document.get("mediaType") or _KINDS[0], document

    def configuration(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Configuration of an image."""
        digest = manifest["config"]["digest"]
        document: dict[str, Any] = self._ask(
            "GET", f"{self._base}/blobs/{digest}", follow_redirects=True
        ).json()
        return document

    def put_blob(self, content: bytes) -> str:
        """Store a blob where it is missing; its digest."""
        digest = digest_of(content)
        if self._client.head(f"{self._base}/blobs/{digest}").is_success:
            return digest
        begun = self._ask("POST", f"{self._base}/blobs/uploads/")
        place = httpx.URL(self._base).join(begun.headers["Location"])
        self._ask("PUT", str(place.copy_merge_params({"digest": digest})), content=content)
        return digest

    def put_manifest(self, kind: str, tag: str, content: bytes) -> str:
        """Store a manifest under a tag; its digest."""
        self._ask("PUT", f"{self._base}/manifests/{tag}", content=content, headers={"Content-Type": kind})
        return digest_of(content)


def digest_of(content: bytes) -> str:
    """Digest of content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _tar(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(text.encode()), 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def derive(repository: Repository, digest: str, recipe: Recipe) -> str:
    """Put what a recipe makes of the image `digest` beside it, tagged by its commit; the new digest."""
    kind, manifest = repository.manifest(digest)
    configuration = repository.configuration(manifest)
    inner = configuration["config"]
    inner["Env"] = [
        item if not item.startswith("GIT_SHA=") else f"GIT_SHA={recipe.git_sha}" for item in inner["Env"]
    ]
    inner["Labels"] = {**(inner.get("Labels") or {}), GIT_SHA_LABEL: recipe.git_sha, **recipe.labels}
    layers = list(manifest["layers"])
    if recipe.files:
        tar = _tar(recipe.files)
        packed = gzip.compress(tar, mtime=0)
        layers.append(
            {"mediaType": _LAYERS[kind], "digest": repository.put_blob(packed), "size": len(packed)}
        )
        configuration["rootfs"]["diff_ids"].append(digest_of(tar))
        configuration.setdefault("history", []).append({"created_by": f"test release: {recipe.name}"})
    text = _json(configuration)
    described = {**manifest["config"], "digest": repository.put_blob(text), "size": len(text)}
    return repository.put_manifest(
        kind, recipe.git_sha, _json({**manifest, "config": described, "layers": layers})
    )


@dataclass(frozen=True)
class Releases:
    """Releases of the running local stack."""

    outputs: StackOutputs
    repository: Repository
    key: SigningKey = field(repr=False)

    def make(self, recipe: Recipe) -> str:
        """Have the release in the registry, signed unless its recipe says otherwise; its digest."""
        digest = derive(self.repository, self.outputs.release.digest, recipe)
        if recipe.signed and not self._verified(digest):
            origin = Origin(SOURCE, recipe.git_sha, digest.removeprefix("sha256:"), "test:release", BUILDER)
            registry = Registry(str(local.REGISTRY.address), self.outputs.settings.trust)
            attest(f"{self.repository.image}@{digest}", origin, registry, self.key)
        return digest

    def _verified(self, digest: str) -> Checked | None:
        try:
            return check_release(self.outputs, STACK, digest, {})
        except UnsignedError:
            return None


@contextmanager
def releases() -> Iterator[Releases]:
    """Releases of the running local stack; its registry answers and its secrets can be read."""
    outputs = read_outputs(STACK)
    target = find_target(outputs, STACK)
    registry = outputs.settings.registry
    texts = [registry.username, registry.password]
    resolve = open_resolver(outputs.secretstore, STACK, outputs.record, texts)
    auth = RegistryAuth(Login(*(resolve(text) for text in texts)))
    values = open_store(outputs.secretstore, STACK, record=outputs.record).get_many(_SIGNING)
    with web(Smoke(target).names, target.trust, auth=auth, timeout=30) as client:
        yield Releases(
            outputs,
            Repository(outputs.release.image, client),
            SigningKey(*(values[name] for name in _SIGNING)),
        )
