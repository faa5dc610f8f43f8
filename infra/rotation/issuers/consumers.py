"""Values that we make ourselves: valid as long as those who have it are given it, so they are asked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

from infra.rotation.issuers.environment import Environment
from infra.rotation.issuers.errors import OnHostsError
from infra.rotation.issuers.http import Answer, Api
from infra.rotation.issuers.model import Issued
from infra.secrets.generators import Generator
from infra.secrets.references import side
from infra.services import agents, names
from infra.services.model import Slot
from infra.services.traefik import COOKIE_NAME, WEBHOOK_PATH

_OURS = "ours"
_SIGNED_PARTS = 3


class Question(Protocol):
    """Asks one host of an environment."""

    def __call__(self, api: Api, value: str) -> bool:
        """Whether the host has the value in use; raises IssuerError where it can't tell."""
        ...


class Consumers:
    """Generated values, and the question that tells which hosts have one in use.

    Nobody else knows a value before a host is given it: none is left behind by a lost answer, and one is
    revoked by giving the hosts another.
    """

    def __init__(
        self, environment: Environment, name: str, generate: Generator, question: Question | None
    ) -> None:
        self._environment = environment
        self._name = name
        self._generate = generate
        self._question = question

    def create(self, label: str) -> Issued:
        """See `Issuer.create`."""
        return Issued(self._generate(), label)

    def labelled(self, label: str) -> list[str]:
        """See `Issuer.labelled`: what was made and not kept is nowhere."""
        return []

    def current(self, value: str) -> str | None:
        """See `Issuer.current`: one for all, since nobody names values."""
        return _OURS

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`: whether some host has it in use."""
        return any(self.accepted_by(value).values())

    def accepted_by(self, value: str) -> dict[str, bool]:
        """Whether each host, by its name, has a value in use.

        Raises:
            OnHostsError: it can only be asked on the hosts themselves.
            IssuerError: a host did not say so.
        """
        if self._question is None:
            raise OnHostsError(f"{self._name} can't be tried from outside: ask the service on each host")
        found = {}
        for host in self._environment.outputs.hosts:
            base = f"https://{self._environment.outputs.domain}"
            api = Api(f"host {host.name}", base, _connecting(self._environment, host.address))
            found[host.name] = self._question(api, value)
        return found

    def revoke(self, id: str) -> None:  # noqa: A002 - the contract's word
        """See `Issuer.revoke`: it is what hosts are given no longer."""


def turning(generate: Generator, in_use: Callable[[], str]) -> Generator:
    """Generator of values of the side whose turn it is: not that of the one in use."""

    def generated() -> str:
        before = side(in_use())
        while side(found := generate()) == before:
            pass
        return found

    return generated


def _connecting(environment: Environment, address: str) -> Callable[[], Any]:
    return lambda: environment.web(address)


def verify_token(api: Api, value: str) -> bool:
    """Whether the service answers a verification of the WhatsApp webhook that has the token."""
    challenge = secrets.token_hex(8)
    answer = api.call(
        "GET",
        WEBHOOK_PATH,
        hidden=(value,),
        params={"hub.mode": "subscribe", "hub.verify_token": value, "hub.challenge": challenge},
        accept=(HTTPStatus.FORBIDDEN,),
    )
    if answer.status == HTTPStatus.FORBIDDEN:
        return False
    if answer.body.decode(errors="replace") != challenge:
        raise answer.garbage()
    return True


def app_secret(api: Api, value: str) -> bool:
    """Whether the service takes a WhatsApp event without messages that is signed with the secret."""
    body = json.dumps({"object": "whatsapp_business_account", "entry": []}).encode()
    signature = hmac.new(value.encode(), body, hashlib.sha256).hexdigest()
    answer = api.call(
        "POST",
        WEBHOOK_PATH,
        hidden=(value, signature),
        content=body,
        headers={"X-Hub-Signature-256": f"sha256={signature}", "Content-Type": "application/json"},
        accept=(HTTPStatus.UNAUTHORIZED,),
    )
    return answer.status != HTTPStatus.UNAUTHORIZED


def cookie_secret(api: Api, value: str) -> bool:
    """Whether oauth2-proxy signs the cookie with which a login begins by the secret, as it signs sessions."""
    answer = api.call("GET", "/oauth2/start", hidden=(value,), params={"rd": "/"}, accept=(HTTPStatus.FOUND,))
    cookies = [header.partition(";")[0] for header in answer.headers.get_list("set-cookie")]
    begun = [cookie for cookie in cookies if cookie.startswith(f"{COOKIE_NAME}_") and "csrf=" in cookie]
    if not begun:
        raise answer.garbage()
    return any(_signed(cookie, value, answer) for cookie in begun)


def _signed(cookie: str, secret: str, answer: Answer) -> bool:
    """Whether a cookie, `name=value|time|signature`, is signed with a secret."""
    name, _, text = cookie.partition("=")
    parts = text.strip('"').split("|")
    if len(parts) != _SIGNED_PARTS:
        raise answer.garbage()
    wanted = hmac.new(secret.encode(), "".join((name, *parts[:2])).encode(), hashlib.sha256).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(wanted).decode(), parts[2])


def metrics_check(slot: Slot, token: str) -> dict[str, Any]:
    """What a slot answers to whoever has the token in use, for the module `service_answers` on its host."""
    return {
        "service": agents.slot_name(slot),
        "port": names.AGENTS_PORT,
        "path": agents.METRICS_PATH,
        "bearer": token,
        "contains": agents.SWITCH_METRIC,
    }
