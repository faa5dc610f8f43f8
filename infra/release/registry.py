"""The registry's HTTP API, as far as a release must be found in it (OCI distribution specification)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from infra.release.model import ReleaseError
from infra.smoke.client import UnknownNameError

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_SERVER_ERRORS = 500
_TOO_MANY = 429
_MOST_PAGES = 100
_PAGE = 1000


class UnreachableError(ReleaseError):
    """The registry does not answer, or answers that it can't."""


class NotFoundError(ReleaseError):
    """The registry answers that it does not have it."""


@dataclass(frozen=True)
class Login:
    """Account at the registry."""

    username: str
    password: str

    def authorization(self) -> str:
        """Header of basic authentication."""
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return f"Basic {credentials}"


@dataclass(frozen=True)
class Image:
    """A manifest by its digest, and the labels of the image's configuration."""

    digest: str
    labels: Mapping[str, str]


class RegistryAuth(httpx.Auth):
    """Answers the challenge of a registry: basic authentication, or a token from the realm it names."""

    requires_response_body = True

    def __init__(self, login: Login) -> None:
        self._login = login
        self._authorization = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send, and once more with what the challenge asks for."""
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        if scheme.lower() == "basic":
            self._authorization = self._login.authorization()
        elif scheme.lower() == "bearer":
            asked = dict(_CHALLENGE.findall(rest))
            realm = httpx.URL(asked.pop("realm", ""))
            if realm.scheme != "https":
                return
            issued = yield httpx.Request(
                "GET", realm, params=asked, headers={"Authorization": self._login.authorization()}
            )
            token = _token(issued)
            if not token:
                return
            self._authorization = f"Bearer {token}"
        else:
            return
        request.headers["Authorization"] = self._authorization
        yield request


def _token(response: httpx.Response) -> str:
    try:
        document = response.json()
        return str(document.get("token") or document.get("access_token") or "")
    except (ValueError, AttributeError):
        return ""


class Repository:
    """One repository of a registry, `<host>/<path>`; `client` knows address, trust and login."""

    def __init__(self, image: str, client: httpx.Client) -> None:
        self.image = image
        self._host, _, self._path = image.partition("/")
        self._client = client

    def image_of(self, reference: str) -> Image:
        """Manifest and labels behind a tag or a digest.

        Raises:
            NotFoundError: there is none.
            UnreachableError: nobody answers.
            ReleaseError: the answer is not to be believed.
        """
        response = self._get(f"manifests/{reference}", accept=", ".join(_MANIFESTS))
        digest = _digest(response.content)
        for claimed in (reference, response.headers.get("Docker-Content-Digest", digest)):
            if claimed.startswith("sha256:") and claimed != digest:
                raise ReleaseError(f"{self._host} answers {digest} where {claimed} was asked for")
        return Image(digest, self._labels(self._document(response)))

    def tags(self) -> list[str]:
        """All tags of the repository, sorted."""
        found: list[str] = []
        page: str | None = f"tags/list?n={_PAGE}"
        for _ in range(_MOST_PAGES):
            if page is None:
                break
            response = self._get(page)
            found += self._document(response).get("tags") or []
            following = response.links.get("next", {}).get("url")
            # Path and query only: whatever a registry answers, the login goes to no other host.
            page = response.url.join(following).raw_path.decode() if following else None
        return sorted(found)

    def _labels(self, manifest: Mapping[str, Any]) -> Mapping[str, str]:
        if "manifests" in manifest:
            images = [
                entry
                for entry in manifest["manifests"]
                if entry.get("platform", {}).get("architecture", "unknown") != "unknown"
            ]
            if not images:
                raise ReleaseError(f"{self.image}: an index without images")
            digest = images[0]["digest"]
            manifest = self._checked(f"manifests/{digest}", digest, accept=", ".join(_MANIFESTS))
        digest = manifest.get("config", {}).get("digest", "")
        configuration = self._checked(f"blobs/{digest}", digest)
        return {str(k): str(v) for k, v in (configuration.get("config", {}).get("Labels") or {}).items()}

    def _checked(self, path: str, digest: str, accept: str = "*/*") -> Mapping[str, Any]:
        response = self._get(path, accept=accept)
        if _digest(response.content) != digest:
            raise ReleaseError(f"{self._host}: the content of {path} has another digest")
        return self._document(response)

    def _document(self, response: httpx.Response) -> dict[str, Any]:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ReleaseError(f"{self._host} answers {response.url.path} with something else than JSON")
        return document

    def _get(self, path: str, accept: str = "application/json") -> httpx.Response:
        url = f"https://{self._host}{path if path.startswith('/') else f'/v2/{self._path}/{path}'}"
        try:
            response = self._client.get(url, headers={"Accept": accept}, follow_redirects=True)
        except (httpx.TransportError, UnknownNameError) as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"the registry {self._host} does not answer: {reason}") from error
        status = response.status_code
        if status >= _SERVER_ERRORS or status == _TOO_MANY:
            raise UnreachableError(f"the registry {self._host} answers {status} to {response.url.path}")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ReleaseError(
                f"the registry {self._host} refuses the environment's login ({status}) for {self._path}:"
                " icupa:registry.username and the secret that icupa:registry.password names"
            )
        if status == httpx.codes.NOT_FOUND:
            raise NotFoundError(f"{self.image} has no {path.partition('?')[0]}{_code(response)}")
        if not response.is_success:
            raise ReleaseError(f"the registry {self._host} answers {status} to {response.url.path}")
        return response


def _code(response: httpx.Response) -> str:
    try:
        return f" ({json.loads(response.content)['errors'][0]['code']})"
    except (KeyError, IndexError, TypeError, ValueError):
        return ""


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
