"""OpenAI: keys of a project by its service accounts, and administrators' keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import SecretStr

from infra.rotation.issuers.environment import Environment
from infra.rotation.issuers.errors import IssuerError, IssuerGarbageError
from infra.rotation.issuers.http import DENIED, Answer, Api, Parsed, bearer
from infra.rotation.issuers.model import Issued
from infra.services import agents

API_KEY = "openai-api-key"
ADMIN_KEY = "openai-admin-key"
_ACCOUNTS = "service_accounts"
_KEYS = "api_keys"
_ADMIN_KEYS = "/admin_api_keys"
_DEFAULT_PROJECT = "Default project"
_ID = re.compile(rf"projects/[A-Za-z0-9_-]+/(?:{_ACCOUNTS}|{_KEYS})/[A-Za-z0-9_-]+")
_ADMIN_ID = re.compile(r"[A-Za-z0-9_-]+")
_MASKED = re.compile(r"\A([^.*·•…]*)[.*·•…]+([^.*·•…]*)\Z")
_LEAST_SHOWN = 3
_PAGE = 100


class _Named(Parsed):
    id: str
    name: str | None = None


class _Owner(Parsed):
    service_account: _Named | None = None


class _Key(_Named):
    redacted_value: str
    owner: _Owner | None = None


class _Made(Parsed):
    id: str
    value: SecretStr


class _Account(Parsed):
    id: str
    api_key: _Made


class _Deleted(Parsed):
    deleted: bool


class _Models(Parsed):
    data: list[Any]


class _Project(_Named):
    status: str = "active"


class _NamedPage(Parsed):
    data: list[_Named]
    has_more: bool = False


class _KeyPage(Parsed):
    data: list[_Key]
    has_more: bool = False


class _ProjectPage(Parsed):
    data: list[_Project]
    has_more: bool = False


_Page = TypeVar("_Page", _NamedPage, _KeyPage, _ProjectPage)


class _Administration:
    """Calls with the administrators' key in use."""

    def __init__(self, environment: Environment) -> None:
        base = environment.variable(agents.ENVIRONMENT_FILE, "OPENAI_BASE_URL")[0]
        self.api = Api("OpenAI", base, environment.web)
        self._secrets = environment.secrets

    def call(self, method: str, path: str, **request: Any) -> Answer:
        key = self._secrets.get(ADMIN_KEY)
        return self.api.call(method, f"/organization{path}", hidden=(key,), headers=bearer(key), **request)

    def pages(self, path: str, shape: type[_Page]) -> Iterator[_Page]:
        """Every page of a list."""
        after: dict[str, str] = {}
        while True:
            page = self.call("GET", path, params={"limit": _PAGE, **after}).read(shape)
            yield page
            if not page.has_more:
                return
            last = page.data[-1].id if page.data else None
            if last is None or last == after.get("after"):
                raise IssuerGarbageError(f"OpenAI answered GET /organization{path} with a list without end")
            after = {"after": last}

    def delete(self, path: str) -> None:
        """Delete what may be gone already."""
        answer = self.call("DELETE", path, accept=(HTTPStatus.NOT_FOUND,))
        if answer.status != HTTPStatus.NOT_FOUND and not answer.read(_Deleted).deleted:
            raise answer.garbage()

    def accepts(self, method: str, path: str, value: str) -> bool:
        """Whether a call with a value is answered; 401 and 403 mean no."""
        answer = self.api.call(method, path, hidden=(value,), headers=bearer(value), accept=DENIED)
        if not answer.denied:
            answer.read(_Models)
        return not answer.denied


class ProjectKeys:
    """Keys of the project whose key is in use, each with a service account of its own, named by the label.

    An id is the path of the account, which its only key goes with, or that of the key.
    """

    def __init__(self, environment: Environment) -> None:
        self._admin = _Administration(environment)
        self._secrets = environment.secrets

    def create(self, label: str) -> Issued:
        """See `Issuer.create`."""
        path = f"{self._project()}/{_ACCOUNTS}"
        account = self._admin.call("POST", f"/{path}", json={"name": label}).read(_Account)
        return Issued(account.api_key.value.get_secret_value(), f"{path}/{account.id}")

    def labelled(self, label: str) -> list[str]:
        """See `Issuer.labelled`."""
        path = f"{self._project()}/{_ACCOUNTS}"
        pages = self._admin.pages(f"/{path}", _NamedPage)
        return [f"{path}/{account.id}" for page in pages for account in page.data if account.name == label]

    def current(self, value: str) -> str | None:
        """See `Issuer.current`: by what is shown of keys."""
        found = [found for project in self._projects() if (found := self._find(project, value))]
        return found[0] if len(found) == 1 else None

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`: lists the models."""
        return self._admin.accepts("GET", "/models", value)

    def revoke(self, id: str) -> None:  # noqa: A002 - the contract's word
        """See `Issuer.revoke`."""
        if not _ID.fullmatch(id):
            raise IssuerError("OpenAI has no keys with such an id; it looks like projects/<project>/…/<id>")
        self._admin.delete(f"/{id}")

    def _projects(self) -> list[str]:
        """Paths of the projects that may have keys of services; the default one can have none."""
        found = [item for page in self._admin.pages("/projects", _ProjectPage) for item in page.data]
        active = [item for item in found if item.status == "active" and item.name != _DEFAULT_PROJECT]
        return [f"projects/{item.id}" for item in active]

    def _project(self) -> str:
        projects = self._projects()
        if len(projects) == 1:
            return projects[0]
        value = self._secrets.get(API_KEY)
        for project in projects:
            if self._find(project, value):
                return project
        raise IssuerError(
            f"OpenAI: none of {len(projects)} projects has the {API_KEY} in use, so a new one could be any's:"
            " make the first key of a project by hand"
        )

    def _find(self, project: str, value: str) -> str | None:
        pages = self._admin.pages(f"/{project}/{_KEYS}", _KeyPage)
        keys = [key for page in pages for key in page.data]
        owners = Counter(account.id for key in keys if (account := _account(key)))
        mine = [key for key in keys if _shows(key.redacted_value, value)]
        if len(mine) != 1:
            return None
        account = _account(mine[0])
        if account and owners[account.id] == 1:
            return f"{project}/{_ACCOUNTS}/{account.id}"
        return f"{project}/{_KEYS}/{mine[0].id}"


class AdministratorKeys:
    """Administrators' keys, made and revoked with the one in use."""

    def __init__(self, environment: Environment) -> None:
        self._admin = _Administration(environment)

    def create(self, label: str) -> Issued:
        """See `Issuer.create`."""
        made = self._admin.call("POST", _ADMIN_KEYS, json={"name": label}).read(_Made)
        return Issued(made.value.get_secret_value(), made.id)

    def labelled(self, label: str) -> list[str]:
        """See `Issuer.labelled`."""
        return [key.id for key in self._keys() if key.name == label]

    def current(self, value: str) -> str | None:
        """See `Issuer.current`: by what is shown of keys."""
        mine = [key.id for key in self._keys() if _shows(key.redacted_value, value)]
        return mine[0] if len(mine) == 1 else None

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`: lists the projects."""
        return self._admin.accepts("GET", "/organization/projects", value)

    def revoke(self, id: str) -> None:  # noqa: A002 - the contract's word
        """See `Issuer.revoke`."""
        if not _ADMIN_ID.fullmatch(id):
            raise IssuerError("OpenAI has no administrators' keys with such an id; it looks like key_…")
        self._admin.delete(f"{_ADMIN_KEYS}/{id}")

    def _keys(self) -> list[_Key]:
        return [key for page in self._admin.pages(_ADMIN_KEYS, _KeyPage) for key in page.data]


def _account(key: _Key) -> _Named | None:
    return key.owner.service_account if key.owner else None


def _shows(redacted: str, value: str) -> bool:
    """Whether a value is shown as this: its beginning, a mask, its end."""
    match = _MASKED.match(redacted)
    if match is None or len(match[2]) < _LEAST_SHOWN:
        return False
    begins, ends = match.groups()
    return len(value) > len(begins) + len(ends) and value.startswith(begins) and value.endswith(ends)
