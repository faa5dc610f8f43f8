"""Vercel: access tokens of an account, made with the one in use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from pydantic import SecretStr

from infra.rotation.issuers.environment import Environment
from infra.rotation.issuers.errors import IssuerError, IssuerGarbageError
from infra.rotation.issuers.http import DENIED, Answer, Api, Parsed, bearer
from infra.rotation.issuers.model import Issued

TOKEN = "vercel-token"  # noqa: S105 - a secret's name
_TOKENS = "/v3/user/tokens"
_CURRENT = "/v5/user/tokens/current"
_LIST = "/v6/user/tokens"
_ID = re.compile(r"[A-Za-z0-9]+")


class _Token(Parsed):
    id: str
    name: str = ""


class _Shown(Parsed):
    token: _Token


class _Made(_Shown):
    bearerToken: SecretStr  # noqa: N815 - Vercel's name


class _Pagination(Parsed):
    next: int | None = None


class _Page(Parsed):
    tokens: list[_Token]
    pagination: _Pagination = _Pagination()


class _Deleted(Parsed):
    tokenId: str  # noqa: N815 - Vercel's name


class Tokens:
    """Access tokens; a token's name is the label."""

    def __init__(self, environment: Environment) -> None:
        self._api = Api("Vercel", environment.endpoint("vercel"), environment.web)
        self._secrets = environment.secrets

    def create(self, label: str) -> Issued:
        """See `Issuer.create`."""
        made = self._call("POST", _TOKENS, json={"name": label}).read(_Made)
        return Issued(made.bearerToken.get_secret_value(), made.token.id)

    def labelled(self, label: str) -> list[str]:
        """See `Issuer.labelled`."""
        return [token.id for page in self._pages() for token in page.tokens if token.name == label]

    def current(self, value: str) -> str | None:
        """See `Issuer.current`: a token may ask for itself."""
        answer = self._itself(value)
        return None if answer.denied else answer.read(_Shown).token.id

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`: a token may ask for itself."""
        return self.current(value) is not None

    def revoke(self, id: str) -> None:  # noqa: A002 - the contract's word
        """See `Issuer.revoke`."""
        if not _ID.fullmatch(id):
            raise IssuerError("Vercel has no tokens with such an id; it has letters and digits only")
        answer = self._call("DELETE", f"{_TOKENS}/{id}", accept=(HTTPStatus.NOT_FOUND,))
        if answer.status != HTTPStatus.NOT_FOUND and answer.read(_Deleted).tokenId != id:
            raise answer.garbage()

    def _itself(self, value: str) -> Answer:
        return self._api.call("GET", _CURRENT, hidden=(value,), headers=bearer(value), accept=DENIED)

    def _pages(self) -> Iterator[_Page]:
        until: dict[str, int] = {}
        while True:
            page = self._call("GET", _LIST, params=until).read(_Page)
            yield page
            if page.pagination.next is None:
                return
            if page.pagination.next == until.get("until"):
                raise IssuerGarbageError(f"Vercel answered GET {_LIST} with a list without end")
            until = {"until": page.pagination.next}

    def _call(self, method: str, path: str, **request: Any) -> Answer:
        token = self._secrets.get(TOKEN)
        return self._api.call(method, path, hidden=(token,), headers=bearer(token), **request)
