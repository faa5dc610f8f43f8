"""Supabase: secret keys of a project's data API, made with the management token."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from infra.rotation.issuers.environment import Environment
from infra.rotation.issuers.errors import IssuerError, NoIssuerError
from infra.rotation.issuers.http import DENIED, Answer, Api, Parsed, bearer
from infra.rotation.issuers.model import Issued
from infra.secrets.catalogue import Driver
from infra.secrets.references import parse
from infra.services import agents

SERVICE_ROLE_KEY = "supabase-service-role-key"
_SECRET = "secret"  # noqa: S105 - a type of keys
_PREFIX = "sb_secret_"
_TABLE = "agent_runtime_configs"
"""The service's table (CFG-3); nothing of it is asked for but whether it may be read."""
_NAME = re.compile(r"[a-z_][a-z0-9_]{3,63}")
_ID = re.compile(r"[A-Za-z0-9-]+")


class _Key(Parsed):
    """Keys of the old kind have no id."""

    id: str | None = None
    name: str
    type: str | None = None
    prefix: str | None = None


class _Made(Parsed):
    id: str
    api_key: SecretStr


class SecretKeys:
    """Secret keys of the project that the hosts use; a key's name is the label with underscores."""

    def __init__(self, environment: Environment) -> None:
        settings = environment.outputs.settings.supabase
        self._secrets = environment.secrets
        self._token = parse(settings.management_token)
        self._url, project = _project(environment)
        self._keys = f"/v1/projects/{project}/api-keys"
        self._management = Api("Supabase", settings.management_url, environment.web)
        self._data = Api(f"Supabase project {project}", self._url, environment.web)

    def create(self, label: str) -> Issued:
        """See `Issuer.create`."""
        asked = {
            "type": _SECRET,
            "name": _name(label),
            "description": label,
            "secret_jwt_template": {"role": "service_role"},
        }
        # Without `reveal` the answer shows the value masked, and nothing shows it ever again.
        answer = self._call("POST", self._keys, params={"reveal": "true"}, json=asked)
        made = answer.read(_Made)
        value = made.api_key.get_secret_value()
        if not value.startswith(_PREFIX) or not value.isascii():
            raise answer.garbage()
        return Issued(value, made.id)

    def labelled(self, label: str) -> list[str]:
        """See `Issuer.labelled`."""
        return [key.id for key in self._all() if key.id and key.name == _name(label)]

    def current(self, value: str) -> str | None:
        """See `Issuer.current`: by the beginning, which is shown. Keys of the old kind have no id."""
        mine = [
            key.id
            for key in self._all()
            if key.id
            and key.type == _SECRET
            and len(key.prefix or "") > len(_PREFIX)
            and value.startswith(key.prefix or "")
        ]
        return mine[0] if len(mine) == 1 else None

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`: reads one name of a flag, as the service reads all."""
        answer = self._data.call(
            "GET",
            f"/rest/v1/{_TABLE}",
            hidden=(value,),
            accept=DENIED,
            params={"select": "key", "limit": "1"},
            headers={"apikey": value, **bearer(value)},
        )
        if not answer.denied:
            answer.read(list[dict[str, Any]])
        return not answer.denied

    def revoke(self, id: str) -> None:  # noqa: A002 - the contract's word
        """See `Issuer.revoke`."""
        if not _ID.fullmatch(id):
            raise IssuerError("Supabase has no keys with such an id; it is a UUID")
        answer = self._call("DELETE", f"{self._keys}/{id}", accept=(HTTPStatus.NOT_FOUND,))
        if answer.status != HTTPStatus.NOT_FOUND and answer.read(_Key).id != id:
            raise answer.garbage()

    def _all(self) -> list[_Key]:
        return self._call("GET", self._keys).read(list[_Key])

    def _call(self, method: str, path: str, **request: Any) -> Answer:
        token = self._secrets.get(self._token)
        return self._management.call(method, path, hidden=(token,), headers=bearer(token), **request)


class ManagementToken:
    """The token of an account: only its owner makes one, in the dashboard."""

    def __init__(self, environment: Environment) -> None:
        settings = environment.outputs.settings.supabase
        self._api = Api("Supabase", settings.management_url, environment.web)
        self._path = f"/v1/projects/{settings.projects[0]}/secrets"

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`: lists the digests of the functions' secrets, as the switch does."""
        answer = self._api.call("GET", self._path, hidden=(value,), headers=bearer(value), accept=DENIED)
        if not answer.denied:
            answer.read(list[dict[str, Any]])
        return not answer.denied


def _name(label: str) -> str:
    name = label.lower().replace("-", "_")
    if not _NAME.fullmatch(name):
        raise IssuerError(
            f"Supabase can't name a key {name!r}: 4 to 64 of a-z, 0-9 and _, the first one no digit"
        )
    return name


def _project(environment: Environment) -> tuple[str, str]:
    """URL of the data API that the hosts use, and its project.

    Raises:
        NoIssuerError: they use several, of which a key can be only one's.
    """
    urls = environment.variable(agents.ENVIRONMENT_FILE, "SUPABASE_URL")
    projects = environment.outputs.settings.supabase.projects
    if len(urls) > 1:
        raise NoIssuerError(
            SERVICE_ROLE_KEY,
            Driver.SUPABASE,
            f"the hosts use {len(urls)} projects ({', '.join(urls)}), and a key is one project's:"
            " give each a secret of its own, make its key in the project's API settings",
        )
    label = (urlsplit(urls[0]).hostname or "").partition(".")[0]
    if label not in projects and len(projects) > 1:
        raise NoIssuerError(
            SERVICE_ROLE_KEY,
            Driver.SUPABASE,
            f"{urls[0]} is none of the projects {', '.join(projects)} of icupa:supabase:"
            " make its key in the project's API settings",
        )
    return urls[0], label if label in projects else projects[0]
