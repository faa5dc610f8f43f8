"""Secrets that are made by hand are tried all the same, and say what an operator does."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from infra.config.model import Rfc2136Dns, Traces
from infra.outputs.model import StackOutputs
from infra.rotation.issuers import (
    Checker,
    Issuer,
    IssuerError,
    IssuerGarbageError,
    IssuerRefusedError,
    IssuerUnavailableError,
    NoIssuerError,
    checker,
    issuer,
)
from infra.secrets.catalogue import CATALOGUE, Driver
from reference.vendors.faults import Fault
from tests.integration.rotation.issuers.conftest import (
    CANARY,
    IN_USE,
    Secrets,
    Wire,
    World,
    outputs_of,
    said_by,
    served,
)
from tests.unit.dns.test_client import KEY, OTHER_KEY, NameServer, server  # noqa: F401 - a fixture

MADE_BY_PROGRAM = {
    "openai-api-key",
    "openai-admin-key",
    "supabase-service-role-key",
    "vercel-token",
    "whatsapp-verify-token",
    "oauth2-proxy-cookie-secret",
    "metrics-token",
    "postgres-app-password",
    "postgres-owner-password",
    "postgres-superuser-password",
    "redis-password",
}
ONLY_ON_LOCAL = {"whatsapp-app-secret"}
NOBODY_JUDGES = (Driver.BACKUP, Driver.SIGNATURE, Driver.WORLD)


def made(stack: StackOutputs) -> set[str]:
    found = set()
    for name in CATALOGUE:
        try:
            driver = issuer(name, stack, Secrets())
        except NoIssuerError as error:
            assert (error.name, error.driver) == (name, CATALOGUE[name].rotation.driver)
            assert error.by_hand
            assert "{" not in error.by_hand
        else:
            assert isinstance(driver, Issuer)
            found.add(name)
    return found


def test_every_secret_has_a_driver_or_says_what_an_operator_does(local_outputs: StackOutputs) -> None:
    assert made(local_outputs) == MADE_BY_PROGRAM | ONLY_ON_LOCAL
    one = outputs_of("staging", SUPABASE_URL="https://icupa-staging-ams.supabase.co")
    assert made(one) == MADE_BY_PROGRAM


def test_what_can_not_be_tried_says_so(local_outputs: StackOutputs) -> None:
    unused = {"traces-query-token"}
    for name, secret in CATALOGUE.items():
        if secret.rotation.driver in NOBODY_JUDGES or name in unused:
            with pytest.raises(NoIssuerError):
                checker(name, local_outputs, Secrets())
        else:
            assert isinstance(checker(name, local_outputs, Secrets()), Checker)


# --- vendors


VENDORS = {
    "slack-token": ("slack", "xoxb-other"),
    "slack-webhook-status": ("slack", f"https://vendors.local.icupa.dev/slack/services/T1/B2/{CANARY}other"),
    "pagerduty-token": ("pagerduty", "other"),
    "statuspage-token": ("statuspage", "other"),
}


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendors_secret_is_tried_without_effect(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    vendor, other = VENDORS[name]
    tried = checker(name, world.outputs, world.secrets, web=world.wire)
    assert tried.accepts(IN_USE[name])
    assert not tried.accepts(other)
    for fault, kind in (
        (Fault(mode="down"), IssuerUnavailableError),
        (Fault(mode="garbage"), IssuerGarbageError),
        (Fault(error_rate=1, error_status=418), IssuerRefusedError),
    ):
        world.faults.by_vendor[vendor] = fault
        error, shown = said_by(lambda: tried.accepts(IN_USE[name]))
        assert type(error) is kind
        assert CANARY not in shown + caplog.text
    world.faults.by_vendor.clear()
    with world.wire() as client:
        history = client.get(
            "https://vendors.local.icupa.dev/slack/api/conversations.list",
            headers={"Authorization": f"Bearer {IN_USE['slack-token']}"},
        ).json()
        for channel in history["channels"]:
            messages = client.get(
                "https://vendors.local.icupa.dev/slack/api/conversations.history",
                params={"channel": channel["id"]},
                headers={"Authorization": f"Bearer {IN_USE['slack-token']}"},
            ).json()
            assert messages["messages"] == [], "somebody was told of it"


@pytest.mark.parametrize("value", [f"http://x/{CANARY}", f"https:///{CANARY}", CANARY, f"https://[{CANARY}"])
def test_what_is_no_webhook_is_said_without_it(world: World, value: str) -> None:
    tried = checker("slack-webhook-status", world.outputs, world.secrets, web=world.wire)
    error, shown = said_by(lambda: tried.accepts(value))
    assert "not an https URL" in str(error)
    assert CANARY not in shown


# --- everybody else, by what their protocols say


class Stub:
    """An application whose next answers a test decides."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.answer: Callable[[Request], Response] = lambda _: Response(status_code=404)
        self.seen: list[Request] = []

        @self.app.api_route("/{path:path}", methods=["GET", "POST"])
        async def everything(request: Request) -> Response:
            await request.body()
            self.seen.append(request)
            return self.answer(request)


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def wire(stub: Stub) -> Iterator[Wire]:
    with served(stub.app) as port:
        hosts = (
            "login.local.icupa.dev",
            "registry.local.icupa.dev",
            "traces.local.icupa.dev",
            "tempo.example",
            "tokens.example",
            "api.cloudflare.com",
            "api.digitalocean.com",
        )
        yield Wire(dict.fromkeys(hosts, port))


def basic(request: Request) -> str:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return base64.b64decode(text).decode() if scheme == "Basic" else ""


DISCOVERY = {"token_endpoint": "https://login.local.icupa.dev/token"}


@pytest.mark.parametrize(
    ("name", "client"), [("oauth-client-secret", "agents"), ("login-smoke-secret", "smoke")]
)
def test_an_oidc_client_is_tried_at_the_token_endpoint(
    local_outputs: StackOutputs, stub: Stub, wire: Wire, name: str, client: str
) -> None:
    def answer(request: Request) -> Response:
        if request.url.path != "/token":
            return JSONResponse(DISCOVERY)
        if basic(request) != f"{client}:right":
            return JSONResponse({"error": "invalid_client"}, 401)
        if client == "smoke":
            return JSONResponse({"access_token": CANARY})
        return JSONResponse({"error": "invalid_grant"}, 400)

    stub.answer = answer
    tried = checker(name, local_outputs, Secrets(), web=wire)
    assert tried.accepts("right")
    assert not tried.accepts("wrong")
    stub.answer = lambda request: JSONResponse(
        DISCOVERY if request.url.path != "/token" else {"error": CANARY},
        400 if request.url.path == "/token" else 200,
    )
    error, shown = said_by(lambda: tried.accepts("right"))
    assert isinstance(error, IssuerRefusedError)
    assert CANARY not in shown
    stub.answer = lambda _: JSONResponse({"other": CANARY})
    error, shown = said_by(lambda: tried.accepts("right"))
    assert isinstance(error, IssuerGarbageError)
    assert CANARY not in shown


def test_a_registry_is_asked_itself(local_outputs: StackOutputs, stub: Stub, wire: Wire) -> None:
    stub.answer = lambda request: Response(
        status_code=200 if basic(request) == "icupa:right" else 401,
        headers={"www-authenticate": 'Basic realm="registry"'},
    )
    tried = checker("registry-password", local_outputs, Secrets(), web=wire)
    assert tried.accepts("right")
    assert not tried.accepts("wrong")


def test_a_registry_that_sends_elsewhere_for_a_token_is_followed_by_tls_only(
    local_outputs: StackOutputs, stub: Stub, wire: Wire
) -> None:
    realm = "https://tokens.example/token"

    def answer(request: Request) -> Response:
        if request.url.path == "/v2/":
            said = f'Bearer realm="{realm}",service="registry",scope="none"'
            return Response(status_code=401, headers={"www-authenticate": said})
        assert dict(request.query_params) == {"service": "registry", "scope": "none", "account": "icupa"}
        return Response(status_code=200 if basic(request) == "icupa:right" else 403)

    stub.answer = answer
    tried = checker("registry-password", local_outputs, Secrets(), web=wire)
    assert tried.accepts("right")
    assert not tried.accepts("wrong")
    realm = "http://tokens.example/token"
    with pytest.raises(IssuerGarbageError):
        tried.accepts("right")


def test_the_traces_backend_is_sent_nothing_as_the_collector_would(
    local_outputs: StackOutputs, stub: Stub, wire: Wire
) -> None:
    stub.answer = lambda request: JSONResponse(
        {}, 200 if request.headers["authorization"] == "Bearer right" else 401
    )
    tried = checker("otlp-token", local_outputs, Secrets(), web=wire)
    assert tried.accepts("right")
    assert not tried.accepts("wrong")
    assert {request.url.path for request in stub.seen} == {"/v1/traces"}


@pytest.mark.parametrize(("user", "header"), [("123", "basic"), (None, "Bearer right")])
def test_who_may_read_traces_finds_none(
    local_outputs: StackOutputs, stub: Stub, wire: Wire, user: str | None, header: str
) -> None:
    token = "${secret:traces-query-token}"
    query = Traces(query_url="https://tempo.example/tempo", username=user, token=token)
    settings = local_outputs.settings.model_copy(update={"traces": query})
    outputs = local_outputs.model_copy(update={"settings": settings})
    stub.answer = lambda request: Response(
        status_code=404
        if request.headers["authorization"] == header or basic(request) == "123:right"
        else 401
    )
    tried = checker("traces-query-token", outputs, Secrets(), web=wire)
    assert tried.accepts("right")
    assert not tried.accepts("wrong")


def test_clouds_are_asked_who_a_token_is(stub: Stub, wire: Wire) -> None:
    production = outputs_of("production")
    stub.answer = lambda request: JSONResponse(
        {"success": (right := request.headers["authorization"] == "Bearer right"), "account": {}},
        200 if right else 401,
    )
    for name in ("cloudflare-token", "cloudflare-challenge-token", "digitalocean-token"):
        tried = checker(name, production, Secrets(), web=wire)
        assert tried.accepts("right")
        assert not tried.accepts("wrong")


def test_a_tsig_key_is_tried_by_a_signed_query(local_outputs: StackOutputs, server: NameServer) -> None:  # noqa: F811
    dns = local_outputs.settings.dns
    assert isinstance(dns, Rfc2136Dns)
    port = server.server_address[1]
    here = dns.model_copy(update={"server": "127.0.0.1", "port": port, "zone": "agents.local.icupa.dev"})
    server.records["agents.local.icupa.dev"] = (15, ["203.0.113.1"])
    settings = local_outputs.settings.model_copy(update={"dns": here})
    tried = checker("tsig-failover", local_outputs.model_copy(update={"settings": settings}), Secrets())
    assert tried.accepts(KEY)
    assert not tried.accepts(OTHER_KEY)
    error, shown = said_by(lambda: tried.accepts(f"{CANARY}!"))
    assert "not base64" in shown
    assert CANARY not in shown
    assert isinstance(error, IssuerError)
