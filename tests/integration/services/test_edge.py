"""What the edge lets through, seen from outside (VM-5, VM-6)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from itertools import product
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.services.traefik import IDENTITY_HEADERS
from tests.integration.services.edge import Edge, await_condition, running_edge

PROGRAM_PATHS = ("/api/agents/sessions", "/api/health", "/health", "/metrics", "/", "/anything")


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_edge(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen(edge: Edge) -> None:
    for slot in edge.slots.values():
        slot.seen.clear()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", ["/api/agents/sessions", "/api/health?x=1", "/health", "/metrics"])
def test_program_without_token_gets_401_in_json(edge: Edge, path: str) -> None:
    response = edge.get(path)
    assert response.status_code == 401
    assert response.headers["Content-Type"].startswith("application/json")
    assert "Location" not in response.headers
    assert edge.seen == []


def test_browser_is_sent_to_log_in(edge: Edge) -> None:
    response = edge.get("/conversations", {"Accept": "text/html"})
    assert response.status_code == 302
    target = urlsplit(response.headers["Location"])
    assert f"{target.scheme}://{target.netloc}" == edge.login.issuer
    asked = parse_qs(target.query)
    assert asked["redirect_uri"] == [f"https://{edge.domain}/oauth2/callback"]
    assert asked["code_challenge_method"] == ["S256"]
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert all(flag in cookie for flag in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"))
    assert "Domain=" not in cookie
    assert edge.seen == []


@pytest.mark.parametrize("path", PROGRAM_PATHS)
def test_valid_token_passes_and_reaches_the_service(edge: Edge, path: str) -> None:
    token = edge.login.token()
    response = edge.get(path, bearer(token))
    assert response.status_code == 200
    ((seen_path, headers),) = edge.seen
    assert seen_path == path
    assert [value for name, value in headers if name.lower() == "authorization"] == [f"Bearer {token}"]


BAD_TOKENS: dict[str, Callable[[Edge], str]] = {
    "expired": lambda edge: edge.login.token(exp=int(time.time()) - 60, iat=int(time.time()) - 600),
    "without end": lambda edge: edge.login.token(exp=None),
    "wrong audience": lambda edge: edge.login.token(aud="icupa-other"),
    "without audience": lambda edge: edge.login.token(aud=None),
    "wrong issuer": lambda edge: edge.login.token(iss="https://login.example.com"),
    "other key": lambda edge: edge.login.token(key=rsa.generate_private_key(65537, 2048)),
    "alg none": lambda edge: edge.login.unsigned(),
    "cut": lambda edge: edge.login.token()[:-10],
    "no token at all": lambda _: "canary",
}


@pytest.mark.parametrize("path", PROGRAM_PATHS)
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_token_gets_401_and_never_a_redirect(edge: Edge, kind: str, path: str) -> None:
    response = edge.get(path, bearer(BAD_TOKENS[kind](edge)))
    assert response.status_code == 401
    assert "Location" not in response.headers
    assert edge.seen == []


def spellings(name: str) -> list[str]:
    return [
        spell(name.replace("-", separator))
        for separator, spell in product("-_.", (str.title, str.lower, str.upper))
    ] + [name.replace("-", "_", 1), name.replace("-", ".", 1), name.replace("-", "~")]


@pytest.mark.parametrize("path", ["/api/whoami", "/api/whatsapp/webhook"])
@pytest.mark.parametrize("header", IDENTITY_HEADERS)
def test_forged_identity_reaches_nobody_in_any_spelling(edge: Edge, header: str, path: str) -> None:
    forged = dict.fromkeys(spellings(header), "canary")
    response = edge.get(path, {**forged, **bearer(edge.login.token())})
    assert response.status_code == 200
    ((_, headers),) = edge.seen
    assert not [name for name, value in headers if "canary" in value]


@pytest.mark.parametrize("header", IDENTITY_HEADERS)
def test_forged_identity_opens_nothing(edge: Edge, header: str) -> None:
    response = edge.get("/api/whoami", dict.fromkeys(spellings(header), "alice@icupa.dev"))
    assert response.status_code == 401
    assert edge.seen == []


def test_forwarded_headers_of_clients_are_not_believed(edge: Edge) -> None:
    forged = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Host": "canary.example.com",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Uri": "/oauth2/callback",
        "X-Real-Ip": "192.0.2.1",
        "Forwarded": "for=192.0.2.1",
    }
    assert edge.get("/api/whoami", forged).status_code == 401
    answer = edge.get("/conversations", {**forged, "Accept": "text/html"})
    assert "canary" not in answer.headers["Location"]
    edge.get("/api/whoami", {**forged, **bearer(edge.login.token())})
    ((_, headers),) = edge.seen
    seen = {name.lower(): value for name, value in headers}
    assert seen["x-forwarded-host"] == edge.domain
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-for"] == seen["x-real-ip"] == "127.0.0.1"


def test_webhook_needs_no_session(edge: Edge) -> None:
    response = edge.get("/api/whatsapp/webhook?hub.mode=subscribe", method="POST")
    assert response.status_code == 200
    ((path, headers),) = edge.seen
    assert path == "/api/whatsapp/webhook?hub.mode=subscribe"
    assert not [name for name, _ in headers if name.lower() == "authorization"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/whatsapp/webhook/",
        "/api/whatsapp/webhook/x",
        "/api/whatsapp/webhook;x",
        "/api/whatsapp/webhook%2f..%2fhealth",
        "/api/whatsapp%2fwebhook",
        "/api/whatsapp/webhook%00",
        "/API/whatsapp/webhook",
        "/oauth2/..%2fapi%2fwhoami",
        "/oauth2%2f..%2fapi",
    ],
)
def test_nothing_beside_the_webhook_is_open(edge: Edge, path: str) -> None:
    response = edge.get(path)
    assert response.status_code >= 300
    assert edge.seen == []


def test_plain_http_is_redirected(edge: Edge) -> None:
    with httpx.Client() as client:
        response = client.get(f"http://127.0.0.1:{edge.http}/api/x?y=1", headers={"Host": edge.domain})
    assert response.status_code == 301
    assert urlsplit(response.headers["Location"]).scheme == "https"
    assert urlsplit(response.headers["Location"]).path == "/api/x"
    assert edge.seen == []


def test_browsers_are_told_to_stay_on_https(edge: Edge) -> None:
    headers = edge.get("/api/health", bearer(edge.login.token())).headers
    assert headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in headers


def test_other_names_get_no_certificate(edge: Edge) -> None:
    with edge.client() as client:
        request = client.build_request("GET", "/api/health", headers={"Host": "other.example.com"})
        request.extensions["sni_hostname"] = "other.example.com"
        with pytest.raises(httpx.ConnectError):
            client.send(request)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(edge: Edge) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        httpx.Client(verify=context, base_url=f"https://127.0.0.1:{edge.https}") as client,
        pytest.raises(httpx.ConnectError),
    ):
        request = client.build_request("GET", "/", headers={"Host": edge.domain})
        request.extensions["sni_hostname"] = edge.domain
        client.send(request)


def test_renamed_route_moves_requests_to_the_other_slot(edge: Edge) -> None:
    token = bearer(edge.login.token())
    for slot in ("green", "blue"):
        edge.activate(slot)
        await_condition(slot, lambda slot=slot: edge.get("/api/x", token).json() == {"from": slot})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_crashed_slot_does_not_answer_goes_to_the_fallback(edge: Edge, method: str) -> None:
    token = bearer(edge.login.token())
    edge.activate("green")
    await_condition("green", lambda: edge.get("/api/x", token).json() == {"from": "green"})
    edge.activate("green", fallback="blue", crashed="green")
    answers: list[tuple[int, str]] = []

    def answered_by_the_fallback() -> bool:
        response = edge.get("/api/x", token, method)
        answers.append((response.status_code, response.json().get("from", "")))
        return answers[-1][1] == "blue"

    try:
        await_condition("blue answers", answered_by_the_fallback)
        assert {status for status, _ in answers} == {200}
    finally:
        edge.activate("blue")
        await_condition("blue", lambda: edge.get("/api/x", token).json() == {"from": "blue"})


@pytest.fixture
def in_maintenance(edge: Edge) -> Iterator[Edge]:
    """The edge while it shows the maintenance answer."""
    token = bearer(edge.login.token())

    def answered_by(name: str) -> bool:
        return bool(edge.get("/api/anything", token).json()["from"] == name)

    edge.show_maintenance(True)
    await_condition("maintenance on", lambda: answered_by("maintenance"))
    for server in (edge.maintenance, *edge.slots.values()):
        server.seen.clear()
    yield edge
    edge.show_maintenance(False)
    await_condition("maintenance off", lambda: answered_by("blue"))


@pytest.mark.parametrize("path", ["/", "/api/whoami", "/metrics", "/healthy", "/oauth2/start", "/api/health"])
@pytest.mark.parametrize("credentials", [True, False])
def test_everybody_gets_the_maintenance_answer(in_maintenance: Edge, path: str, credentials: bool) -> None:
    edge = in_maintenance
    response = edge.get(path, bearer(edge.login.token()) if credentials else {"Accept": "text/html"})
    assert response.json() == {"from": "maintenance"}
    assert response.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert edge.seen == []


def test_webhooks_get_the_maintenance_answer(in_maintenance: Edge) -> None:
    assert in_maintenance.get("/api/whatsapp/webhook", method="POST").json() == {"from": "maintenance"}
    assert in_maintenance.seen == []


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health?deep=1"])
def test_health_is_answered_by_the_service_in_maintenance(in_maintenance: Edge, path: str) -> None:
    response = in_maintenance.get(path, bearer(in_maintenance.login.token()))
    assert response.json() == {"from": "blue"}
    assert in_maintenance.get(path).status_code == 401
