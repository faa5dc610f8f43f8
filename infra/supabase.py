"""Supabase's management API: secrets of a project's functions, shown as digests only (CFG-2, CFG-5)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import httpx

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)


class SupabaseError(Exception):
    """The API refused, did not answer or answered with something else; the message holds no token."""


def digest(value: str) -> str:
    """What the API shows of a secret: SHA-256 in hexadecimal."""
    return hashlib.sha256(value.encode()).hexdigest()


class Management:
    """The API at `url` with an access token, by `client`."""

    def __init__(self, url: str, token: str, client: httpx.Client) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._client = client

    def digests(self, project: str) -> dict[str, str]:
        """Digest of each secret of a project's functions, by its name."""
        answer = self._call("GET", project)
        try:
            return {str(item["name"]): str(item["value"]) for item in answer.json()}
        except (ValueError, KeyError, TypeError):
            raise SupabaseError(f"{project}: the API answered with no list of secrets") from None

    def ensure(self, project: str, wanted: Mapping[str, str]) -> list[str]:
        """Set those secrets that are not what is wanted; their names.

        Raises:
            SupabaseError: it was refused, or the API does not show what was set.
        """
        wrong = self.differing(project, wanted)
        if wrong:
            self._call("POST", project, json=[{"name": name, "value": wanted[name]} for name in wrong])
            if left := self.differing(project, wanted):
                raise SupabaseError(
                    f"{project}: the API took {', '.join(left)} but does not answer with what was set"
                )
        return wrong

    def differing(self, project: str, wanted: Mapping[str, str]) -> list[str]:
        """Names of secrets that are not what is wanted."""
        known = self.digests(project)
        return [name for name, value in wanted.items() if known.get(name) != digest(value)]

    def _call(self, method: str, project: str, **arguments: Any) -> httpx.Response:
        url = f"{self._url}/v1/projects/{project}/secrets"
        try:
            answer = self._client.request(method, url, headers=self._headers, timeout=_TIMEOUT, **arguments)
        except (httpx.HTTPError, LookupError, OSError) as error:
            raise SupabaseError(f"{project}: no answer ({type(error).__name__}: {error})") from error
        if not answer.is_success:
            raise SupabaseError(f"{project}: the API answered {answer.status_code}{_said(answer)}")
        return answer


def _said(answer: httpx.Response) -> str:
    try:
        message = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({str(message)[:120]})"
