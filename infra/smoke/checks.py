"""The checks. Each answers with a detail, or raises CheckFailedError or NotCheckedError."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import ssl
import time
import uuid
from collections.abc import Callable
from functools import cached_property
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from infra.record import Switch
from infra.secrets import references
from infra.services.traefik import WEBHOOK_PATH
from infra.smoke.client import Names, trusting, web
from infra.smoke.target import Target
from infra.smoke.traces import await_trace, open_sink

SERVICE_NAME = "icupa-agents-service"
CUSTOMER = "+250788000000"
_LEAST_CERTIFICATE_SECONDS = 48 * 3600
_CONNECT_TIMEOUT = 10.0
_BROWSER = {"Accept": "text/html,application/xhtml+xml", "User-Agent": "Mozilla/5.0 (icupa smoke)"}
_MOST_REDIRECTS = 10


class CheckFailedError(Exception):
    """A check found something else than it wants."""


class NotCheckedError(Exception):
    """A check that this environment does not allow; the message says why."""


class LoginForm(HTMLParser):
    """The first form of a page that posts a password."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self._open = False
        self.feed(page)

    @property
    def usable(self) -> bool:
        """Whether a password can be typed."""
        return self.action is not None and "password" in self.kinds.values()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the fields of a form."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.usable:
            self.action, self.fields, self.kinds, self._open = given.get("action", ""), {}, {}, True
        elif tag == "input" and self._open and given.get("name"):
            self.fields[given["name"]] = given.get("value", "")
            self.kinds[given["name"]] = given.get("type", "text")

    def handle_endtag(self, tag: str) -> None:
        """Stop at the form's end."""
        if tag == "form":
            self._open = False

    def filled(self, user: str, password: str) -> dict[str, str]:
        """Fields with user and password in them."""
        typed = {"email": user, "text": user, "password": password}
        return {name: typed.get(self.kinds[name], value) for name, value in self.fields.items()}


def want(condition: bool, otherwise: str) -> None:
    """Raise CheckFailedError unless the condition holds."""
    if not condition:
        raise CheckFailedError(otherwise)


def want_status(response: httpx.Response, *accepted: int) -> httpx.Response:
    """The response, if its status is one of those accepted."""
    if response.status_code not in accepted:
        path = response.request.url.path
        raise CheckFailedError(
            f"{response.request.method} {path} answers {response.status_code}{_code(response)}"
        )
    return response


def _want_maintenance(response: httpx.Response, kind: str) -> str:
    want_status(response, 503)
    found = response.headers.get("content-type", "")
    want(found.partition(";")[0] == kind, f"503 as {found!r}, not {kind}")
    after = response.headers.get("retry-after", "")
    want(after.isdecimal(), f"503 with Retry-After {after!r}")
    return f"503, {kind}, again after {after} s"


def _want_off(response: httpx.Response, switch: Switch) -> str:
    want_status(response, 503)
    code = _code(response)
    want(f"switched_off.{switch}" in code, f"{switch} is off, and the answer is 503{code}")
    return f"{switch} is off: 503, as it must be"


def _code(response: httpx.Response) -> str:
    try:
        return f" ({response.json()['error']['code']})"
    except (KeyError, TypeError, ValueError):
        return ""


class Smoke:
    """One run over a target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.names = Names(target.zone, target.nameserver, target.resolvers)
        self.base = f"https://{target.name}"
        self.correlation = f"smoke-{uuid.uuid4()}"

    def client(self, **options: Any) -> httpx.Client:
        """A client without credentials."""
        headers = {"X-Correlation-ID": self.correlation, **options.pop("headers", {})}
        return web(self.names, self.target.trust, base_url=self.base, headers=headers, **options)

    @cached_property
    def anonymous(self) -> httpx.Client:
        """A program without credentials."""
        return self.client()

    @cached_property
    def program(self) -> httpx.Client:
        """A program with a token."""
        return self.client(headers={"Authorization": f"Bearer {self.token()}"})

    def token(self, client: str | None = None, **parameters: str) -> str:
        """Access token by client credentials."""
        secret = references.parse(self.target.client_secret)
        with web(self.names, self.target.trust) as provider:
            found = want_status(
                provider.get(f"{self.target.issuer.rstrip('/')}/.well-known/openid-configuration"), 200
            )
            answer = provider.post(
                found.json()["token_endpoint"],
                data={"grant_type": "client_credentials", **parameters},
                auth=(client or self.target.client, self.target.secrets.get(secret)),
            )
            return str(want_status(answer, 200).json()["access_token"])

    def checks(self, *, health: bool = True) -> list[tuple[str, Callable[[], str]]]:
        """Name and function of every check, in order: in maintenance, of what is to be seen then.

        Without `health` the service may be down in maintenance.
        """
        if not self.target.maintenance:
            return self._in_service()
        own = [("health with token", self.health), ("readiness", self.readiness)]
        return [*self._in_maintenance(), *(own if health else [])]

    def _in_maintenance(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("dns", self.dns),
            ("certificate", self.certificate),
            ("redirect to https", self.redirect),
            ("maintenance, browser", self.maintenance_page),
            ("maintenance, program", self.maintenance_answer),
            ("maintenance, webhook", self.maintenance_webhook),
        ]

    def _in_service(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("dns", self.dns),
            ("certificate", self.certificate),
            ("redirect to https", self.redirect),
            ("no token, program", self.no_token),
            ("no session, browser", self.no_session),
            ("health with token", self.health),
            ("readiness", self.readiness),
            ("identity", self.identity),
            ("browser login", self.browser_login),
            ("write read back", self.write),
            ("tool call", self.tool_call),
            ("webhook verification", self.webhook_verification),
            ("webhook bad signature", self.webhook_bad_signature),
            ("webhook signed", self.webhook_signed),
            ("metrics need a token", self.metrics),
            ("trace in the sink", self.trace),
        ]

    def dns(self) -> str:
        """The name's only address is the serving host's."""
        addresses, ttl = self.names.lookup(self.target.name)
        want(
            addresses == [self.target.host.address],
            f"{', '.join(addresses)}, not {self.target.host.address} of {self.target.host.name}",
        )
        return f"{addresses[0]} ({self.target.host.region}), TTL {ttl} s"

    def certificate(self) -> str:
        """The chain ends at a trusted authority, the name fits, and time remains."""
        context = trusting(self.target.trust)
        address = (self.names.address(self.target.name), 443)
        try:
            with (
                socket.create_connection(address, timeout=_CONNECT_TIMEOUT) as connection,
                context.wrap_socket(connection, server_hostname=self.target.name) as secured,
            ):
                certificate: dict[str, Any] = dict(secured.getpeercert() or {})
                version = secured.version()
        except ssl.SSLCertVerificationError as error:
            raise CheckFailedError(error.verify_message) from error
        left = ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()
        want(left > _LEAST_CERTIFICATE_SECONDS, f"ends at {certificate['notAfter']}")
        issuer = {key: value for part in certificate["issuer"] for key, value in part}
        return f"{issuer.get('commonName', '?')}, {left / 86400:.0f} days left, {version}"

    def redirect(self) -> str:
        """Plain HTTP only redirects."""
        response = want_status(self.anonymous.get(f"http://{self.target.name}/health"), 301, 308)
        location = response.headers.get("location", "")
        want(location == f"{self.base}/health", f"redirects to {location!r}")
        return f"{response.status_code} to {location}"

    def no_token(self) -> str:
        """A program without a token gets 401 in JSON, never a redirect."""
        response = want_status(self.anonymous.get("/api/whoami"), 401)
        kind = response.headers.get("content-type", "")
        want(kind.startswith("application/json"), f"401 as {kind!r}, not JSON")
        want("location" not in response.headers, "401 with a redirect")
        return "401 in JSON"

    def no_session(self) -> str:
        """A browser without a session is sent to log in."""
        with self.client(headers=_BROWSER) as browser:
            page = self._follow(browser, browser.get("/"), until=self._issuer_host())
        query = parse_qs(page.request.url.query.decode())
        want("code_challenge" in query, "the login has no PKCE challenge")
        want(
            query.get("redirect_uri") == [f"{self.base}/oauth2/callback"],
            f"the login returns to {query.get('redirect_uri')}",
        )
        return f"sent to {page.request.url.host}"

    def health(self) -> str:
        """The service is up, and says which release it is."""
        document = want_status(self.program.get("/health"), 200).json()
        return f"git_sha {document.get('git_sha', '?')}"

    def readiness(self) -> str:
        """The service can serve: database, schema."""
        return str(want_status(self.program.get("/health/ready"), 200).json()["status"])

    def identity(self) -> str:
        """The service has verified the token itself."""
        document = want_status(self.program.get("/api/whoami"), 200).json()
        want(document["issuer"] == self.target.issuer, f"issuer is {document['issuer']}")
        return f"verified as {document['subject']}"

    def browser_login(self) -> str:
        """A person logs in by the provider's form and is known to the service."""
        user = self.target.user
        if user is None:
            raise NotCheckedError("no user whose password a program may type")
        with self.client(headers=_BROWSER) as browser:
            page = self._follow(browser, browser.get("/"))
            form = LoginForm(page.text)
            want(form.usable, f"no login form at {page.request.url.host}")
            posted = browser.post(
                urljoin(str(page.request.url), form.action or ""),
                data=form.filled(user.email, self.target.secrets.get(user.secret)),
            )
            back = self._follow(browser, posted)
            want(back.request.url.host == self.target.name, f"login ends at {back.request.url.host}")
            document = want_status(browser.get("/api/whoami"), 200).json()
        want(document["email"] == user.email, f"known as {document['email']!r}")
        return f"logged in as {document['email']}"

    def maintenance_page(self) -> str:
        """A browser gets a page."""
        with self.client(headers=_BROWSER) as browser:
            return _want_maintenance(browser.get("/"), "text/html")

    def maintenance_answer(self) -> str:
        """A program gets an error in JSON, token or not."""
        _want_maintenance(self.anonymous.get("/api/whoami"), "application/json")
        # Any will do: nobody looks at it, so that it works while the login does not.
        some = {"Authorization": "Bearer smoke"}
        return _want_maintenance(self.anonymous.get("/api/whoami", headers=some), "application/json")

    def maintenance_webhook(self) -> str:
        """Whoever sends events is told to send them again."""
        return _want_maintenance(self.anonymous.post(WEBHOOK_PATH, content=b"{}"), "application/json")

    def tool_call(self) -> str:
        """A tool finds the customer whom the write made known."""
        if Switch.FEATURE_AGENT_VOUCHERS in self.target.off:
            raise NotCheckedError(f"{Switch.FEATURE_AGENT_VOUCHERS} is off: no write made a customer known")
        found = want_status(self.program.post("/api/tools/lookup_customer", json={"msisdn": CUSTOMER}), 200)
        return f"customer {found.json()['id']}"

    def write(self) -> str:
        """An acknowledged write is read back."""
        order = {"customer_msisdn": CUSTOMER, "amount": 1}
        made = self.program.post(
            "/api/tools/create_voucher", json=order, headers={"Idempotency-Key": str(uuid.uuid4())}
        )
        if Switch.FEATURE_AGENT_VOUCHERS in self.target.off:
            return _want_off(made, Switch.FEATURE_AGENT_VOUCHERS)
        number = want_status(made, 201).json()["policy_number"]
        status = want_status(self.program.get(f"/api/vouchers/{number}"), 200).json()["status"]
        void = {"policy_number": number, "reason": "smoke test"}
        want_status(self.program.post("/api/tools/void_voucher", json=void), 200)
        want(status == "issued", f"voucher {number} is {status!r}")
        return f"voucher {number}"

    def webhook_verification(self) -> str:
        """The webhook answers a right verification with its challenge, a wrong one with 403."""
        challenge = secrets.token_hex(8)
        query = {"hub.mode": "subscribe", "hub.challenge": challenge}
        token = self.target.secrets.get("whatsapp-verify-token")
        right = self.anonymous.get(WEBHOOK_PATH, params={**query, "hub.verify_token": token})
        if Switch.WHATSAPP_INTEGRATION_ENABLED in self.target.off:
            return _want_off(right, Switch.WHATSAPP_INTEGRATION_ENABLED)
        want(want_status(right, 200).text == challenge, "answers with another challenge")
        want_status(self.anonymous.get(WEBHOOK_PATH, params={**query, "hub.verify_token": "wrong"}), 403)
        return "challenge answered, wrong token 403"

    def webhook_bad_signature(self) -> str:
        """A message with a wrong signature is refused, and so is one without."""
        body = json.dumps({"object": "whatsapp_business_account", "entry": []}).encode()
        wrong = {"X-Hub-Signature-256": f"sha256={'0' * 64}"}
        want_status(self.anonymous.post(WEBHOOK_PATH, content=body, headers=wrong), 401)
        want_status(self.anonymous.post(WEBHOOK_PATH, content=body), 401)
        return "401"

    def webhook_signed(self) -> str:
        """A rightly signed message is taken."""
        body = json.dumps({"object": "whatsapp_business_account", "entry": []}).encode()
        key = self.target.secrets.get("whatsapp-app-secret").encode()
        signature = hmac.new(key, body, hashlib.sha256).hexdigest()
        signed = {"X-Hub-Signature-256": f"sha256={signature}", "Content-Type": "application/json"}
        answer = self.anonymous.post(WEBHOOK_PATH, content=body, headers=signed)
        if Switch.WHATSAPP_INTEGRATION_ENABLED in self.target.off:
            return _want_off(answer, Switch.WHATSAPP_INTEGRATION_ENABLED)
        want_status(answer, 200)
        return "taken"

    def metrics(self) -> str:
        """Metrics are for whoever has a token."""
        want_status(self.anonymous.get("/metrics"), 401)
        text = want_status(self.program.get("/metrics"), 200).text
        want("agents_build_info" in text, "no agents_build_info")
        return f"401 without, {len(text.splitlines())} lines with one"

    def trace(self) -> str:
        """A request's trace arrives at the backend under the service's name."""
        sink = open_sink(self.target, lambda: web(self.names, self.target.trust))
        if sink is None:
            raise NotCheckedError("no trace backend to ask: name one as icupa:traces of the stack file")
        trace_id = secrets.token_hex(16)
        parent = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
        want_status(self.program.get("/api/whoami", headers=parent), 200)
        seconds = await_trace(sink, trace_id, SERVICE_NAME)
        return f"{SERVICE_NAME} after {seconds:.1f} s"

    def _issuer_host(self) -> str:
        return urlsplit(self.target.issuer).hostname or ""

    def _follow(
        self, browser: httpx.Client, response: httpx.Response, until: str | None = None
    ) -> httpx.Response:
        """The page at the end of redirects, or the first answer of host `until`.

        The service itself may have no page to come back to; what it knows of the browser is asked afterwards.
        """
        for _ in range(_MOST_REDIRECTS):
            if response.request.url.host == until or not response.has_redirect_location:
                break
            response = browser.get(urljoin(str(response.request.url), response.headers["location"]))
        host = response.request.url.host
        want(until in (None, host), f"ends at {host} with {response.status_code}")
        want(host == self.target.name or not response.is_error, f"{host} answers {response.status_code}")
        return response
