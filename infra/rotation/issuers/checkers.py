"""Secrets that an operator makes by hand: whether a value is valid, asked of whoever judges it."""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring

from infra.config.model import Rfc2136Dns, Traces
from infra.rotation.issuers.environment import Environment
from infra.rotation.issuers.errors import (
    IssuerError,
    IssuerGarbageError,
    IssuerRefusedError,
    IssuerUnavailableError,
)
from infra.rotation.issuers.http import DENIED, Answer, Api, Parsed, bearer
from infra.rotation.issuers.model import Checker
from infra.secrets import references
from infra.secrets.references import reference

_DNS_TIMEOUT = 10.0
_BAD = HTTPStatus.BAD_REQUEST


class Anything(Parsed):
    """Any JSON object."""


class Only:
    """A driver of which only the check is meant: its values are made elsewhere."""

    def __init__(self, driver: Checker) -> None:
        self._driver = driver

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        return self._driver.accepts(value)


class ApiToken:
    """A bearer's token of an API with a call that has no effect; 401 and 403 mean no."""

    def __init__(self, api: Api, path: str, shape: type[Any] = Anything, scheme: str = "Bearer") -> None:
        self._api = api
        self._path = path
        self._shape = shape
        self._scheme = scheme

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        headers = {"Authorization": f"{self._scheme} {value}"}
        answer = self._api.call("GET", self._path, hidden=(value,), headers=headers, accept=DENIED)
        if not answer.denied:
            answer.read(self._shape)
        return not answer.denied


class _Slack(Parsed):
    ok: bool
    error: str = ""


class SlackToken:
    """A bot's token; `auth.test` answers 200 to all."""

    _INVALID = frozenset({"invalid_auth", "token_revoked", "token_expired", "account_inactive", "not_authed"})

    def __init__(self, environment: Environment) -> None:
        self._api = Api("Slack", environment.endpoint("slack"), environment.web)

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        answer = self._api.call("POST", "/api/auth.test", hidden=(value,), headers=bearer(value))
        said = answer.read(_Slack)
        if not said.ok and said.error not in self._INVALID:
            raise answer.garbage()
        return said.ok


class SlackWebhook:
    """A webhook's URL: a message without text is refused by one that is valid, for having none."""

    _VALID = frozenset({b"no_text", b"invalid_payload", b"missing_text_or_fallback_or_attachments"})
    _GONE = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)

    def __init__(self, environment: Environment) -> None:
        self._web = environment.web

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        parts = _parts(value)
        if parts is None:
            raise IssuerError("Slack: the webhook's value is not an https URL")
        api = Api("Slack", f"https://{parts[0]}", self._web)
        answer = api.call(
            "POST",
            parts[1],
            hidden=(value, parts[1]),
            shown="the webhook",
            accept=(_BAD, *self._GONE),
            json={},
        )
        if answer.status == _BAD and answer.body.strip() in self._VALID:
            return True
        if answer.status in self._GONE:
            return False
        raise answer.garbage()


def _parts(url: str) -> tuple[str, str] | None:
    """Host with port, and the rest, of an https URL."""
    try:
        found = urlsplit(url)
        return (found.netloc, found.path) if found.scheme == "https" and found.hostname else None
    except ValueError:
        return None


class _Event(Parsed):
    errors: tuple[str, ...] = ()


class RoutingKey:
    """A key of PagerDuty's events: the end of an incident that never was has no effect."""

    def __init__(self, environment: Environment) -> None:
        self._api = Api("PagerDuty", environment.endpoint("pagerduty"), environment.web)

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        event = {"routing_key": value, "event_action": "resolve", "dedup_key": "icupa-rotation-check"}
        answer = self._api.call("POST", "/v2/enqueue", hidden=(value,), json=event, accept=(_BAD,))
        said = answer.read(_Event)
        if answer.status != _BAD:
            return True
        if any(re.search(r"routing[_ ]key", error, re.IGNORECASE) for error in said.errors):
            return False
        raise answer.garbage()


class _Discovery(Parsed):
    token_endpoint: str


class _Problem(Parsed):
    error: str


class ClientSecret:
    """The secret of an OIDC client: a code that was never given is refused to the client that it is of.

    A client of programs is given a token instead.
    """

    def __init__(self, environment: Environment, client: str, *, program: bool) -> None:
        self._issuer = environment.outputs.settings.login.issuer.rstrip("/")
        self._web = environment.web
        self._client = client
        self._domain = environment.outputs.domain
        self._program = program

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        who = "the OIDC provider"
        found = Api(who, self._issuer, self._web).call(
            "GET", "/.well-known/openid-configuration", hidden=(value,)
        )
        asked = {"grant_type": "client_credentials"}
        if not self._program:
            asked = {
                "grant_type": "authorization_code",
                "code": secrets.token_urlsafe(24),
                "code_verifier": secrets.token_urlsafe(48),
                "redirect_uri": f"https://{self._domain}/oauth2/callback",
            }
        answer = Api(who, found.read(_Discovery).token_endpoint, self._web).call(
            "POST",
            "",
            shown="the token endpoint",
            hidden=(value,),
            accept=(_BAD, HTTPStatus.UNAUTHORIZED),
            data=asked,
            auth=(quote(self._client, safe=""), quote(value, safe="")),
        )
        if answer.status not in (_BAD, HTTPStatus.UNAUTHORIZED):
            answer.read(Anything)
            return True
        problem = answer.read(_Problem).error
        if problem not in ("invalid_client", "invalid_grant"):
            raise IssuerRefusedError(f"{who} answered client {self._client} with neither yes nor no")
        return problem == "invalid_grant"


class RegistryPassword:
    """A registry's password: asked of itself, or of the service that it sends clients to for a token."""

    _CHALLENGE = re.compile(r'(\w+)="([^"]*)"')

    def __init__(self, environment: Environment) -> None:
        registry = environment.outputs.settings.registry
        self._web = environment.web
        self._user = registry.username
        self._who = f"registry {registry.host}"
        self._api = Api(self._who, f"https://{registry.host}", self._web)

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        login: dict[str, Any] = {"hidden": (value,), "auth": (self._user, value), "accept": DENIED}
        answer = self._api.call("GET", "/v2/", **login)
        challenge = answer.headers.get("www-authenticate", "")
        if not answer.denied or not challenge.lower().startswith("bearer "):
            return not answer.denied
        asked = dict(self._CHALLENGE.findall(challenge))
        realm = asked.pop("realm", "")
        if _parts(realm) is None:
            raise answer.garbage()
        answer = Api(self._who, realm, self._web).call(
            "GET", "", shown="its token service", params={**asked, "account": self._user}, **login
        )
        return not answer.denied


class TracesToken:
    """A token of the traces backend, sent as the collector sends it: no spans."""

    def __init__(self, environment: Environment, endpoint: str, headers: str, name: str) -> None:
        self._api = Api("the traces backend", endpoint, environment.web)
        self._headers = headers
        self._name = name
        self._secrets = environment.secrets

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        text = references.resolve(
            self._headers, lambda name: value if name == self._name else self._secrets.get(name)
        )
        headers = dict(pair.partition("=")[::2] for pair in text.split(","))
        answer = self._api.call(
            "POST",
            "/v1/traces",
            hidden=(value, *headers.values()),
            headers={name.strip(): found for name, found in headers.items()},
            json={"resourceSpans": []},
            accept=DENIED,
        )
        return not answer.denied


class TracesQueryToken:
    """A token that may read traces: one that nobody sent is looked for."""

    def __init__(self, environment: Environment, query: Traces) -> None:
        self._api = Api("the traces backend", query.query_url, environment.web)
        self._user = query.username

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        login: dict[str, Any] = {"auth": (self._user, value)} if self._user else {"headers": bearer(value)}
        answer = self._api.call(
            "GET",
            f"/api/traces/{secrets.token_hex(16)}",
            shown="/api/traces/(none)",
            hidden=(value,),
            accept=(*DENIED, HTTPStatus.NOT_FOUND),
            **login,
        )
        return not answer.denied


class TsigKey:
    """A key of the name server: a query signed with it is answered, or told that it isn't known."""

    def __init__(self, config: Rfc2136Dns, name: str) -> None:
        challenge = reference(name) == config.challenge_key_secret
        self._config = config
        self._key = config.challenge_key_name if challenge else config.key_name
        self._zone = config.challenge_zone if challenge else config.zone

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        who = f"name server {self._config.server}"
        try:
            keyring = dns.tsigkeyring.from_text({self._key: value})
        except ValueError:
            raise IssuerError(f"{who}: the value of key {self._key} is not base64") from None
        query = dns.message.make_query(f"{self._zone}.", dns.rdatatype.SOA)
        query.use_tsig(keyring, f"{self._key}.", algorithm=f"{self._config.algorithm}.")
        try:
            answer = dns.query.tcp(
                query, str(self._config.server), timeout=_DNS_TIMEOUT, port=self._config.port
            )
        except (dns.tsig.PeerBadKey, dns.tsig.PeerBadSignature):
            return False
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.exception.FormError) as error:
            raise IssuerGarbageError(f"{who} answered something else ({type(error).__name__})") from None
        except (dns.exception.DNSException, OSError) as error:
            raise IssuerUnavailableError(f"{who} did not answer ({type(error).__name__})") from None
        if answer.rcode() != dns.rcode.NOERROR or not answer.had_tsig:
            raise IssuerGarbageError(f"{who} answered {dns.rcode.to_text(answer.rcode())}, not signed")
        return True


class _Verified(Parsed):
    success: bool


class CloudflareToken:
    """A token that verifies itself."""

    def __init__(self, environment: Environment) -> None:
        self._api = Api("Cloudflare", environment.endpoint("cloudflare"), environment.web)

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        answer: Answer = self._api.call(
            "GET", "/user/tokens/verify", hidden=(value,), headers=bearer(value), accept=(_BAD, *DENIED)
        )
        return answer.read(_Verified).success
