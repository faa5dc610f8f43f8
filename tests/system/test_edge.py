"""The edge of the running local stack, from outside: who gets in, and what never counts (VM-5, VM-6).

Every name is resolved at the stack's own name server and its certificates must come from its own authority.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from infra import local
from infra.outputs.model import StackOutputs
from infra.outputs.read import read_outputs
from infra.record import open_record
from infra.services import names
from infra.services.traefik import IDENTITY_HEADERS, WEBHOOK_PATH
from infra.smoke.checks import Smoke
from infra.smoke.client import trusting
from infra.smoke.target import find_target
from infra.world import login

pytestmark = pytest.mark.system

STACK = "local"
SPOOFED = "spoofed@attacker.example"
PROTECTED = "/api/whoami"
BROWSER = {"Accept": "text/html"}
# How clients and proxies are known to write the name of one header.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "dash": str,
    "lower case": str.lower,
    "upper case": str.upper,
    "underscore": lambda name: name.replace("-", "_"),
    "upper underscore": lambda name: name.replace("-", "_").upper(),
    "dot": lambda name: name.replace("-", "."),
    "mixed": lambda name: name.replace("-", "_", 1).swapcase(),
}


@pytest.fixture(scope="module")
def outputs() -> StackOutputs:
    return read_outputs(STACK)


@pytest.fixture(scope="module", params=[None, "fra1"], ids=["public", "fra1"])
def smoke(outputs: StackOutputs, request: pytest.FixtureRequest) -> Smoke:
    return Smoke(find_target(outputs, STACK, request.param))


@pytest.fixture(scope="module")
def token(smoke: Smoke) -> str:
    return smoke.token()


@pytest.fixture
def anonymous(smoke: Smoke) -> Iterator[httpx.Client]:
    with smoke.client() as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def assert_refused(response: httpx.Response) -> None:
    """401 for a program: never a redirect, never a page."""
    assert response.status_code == 401, response.text
    assert "location" not in response.headers


def signing_key_id(smoke: Smoke, token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def forged(token: str, *, key: Any = None, algorithm: str = "RS256", kid: str, **claims: Any) -> str:
    """The claims of a real token, changed, under another signature."""
    real = jwt.decode(token, options={"verify_signature": False})
    signer = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode({**real, **claims}, signer, algorithm=algorithm, headers={"kid": kid})


def test_a_program_without_a_token_gets_401_in_json(anonymous: httpx.Client) -> None:
    response = anonymous.get(PROTECTED)
    assert_refused(response)
    assert response.headers["content-type"].startswith("application/json")
    assert isinstance(response.json(), dict)


def test_a_browser_without_a_session_is_sent_to_log_in(anonymous: httpx.Client) -> None:
    response = anonymous.get("/", headers=BROWSER)
    assert response.status_code in (302, 303, 307)
    assert response.headers["location"].startswith(f"{login.ISSUER}/")


def test_a_valid_token_gets_in(anonymous: httpx.Client, token: str) -> None:
    response = anonymous.get(PROTECTED, headers=bearer(token))
    assert response.status_code == 200, response.text
    assert response.json()["subject"] == login.SMOKE_CLIENT


def test_a_browser_logs_in(outputs: StackOutputs) -> None:
    public = Smoke(find_target(outputs, STACK))
    assert public.browser_login() == f"logged in as {login.ALICE.email}"


def test_an_expired_token_is_refused(smoke: Smoke, anonymous: httpx.Client) -> None:
    expiring = smoke.token(login.EXPIRING_CLIENT)
    # The service allows clocks to differ by 10 s.
    ends = jwt.decode(expiring, options={"verify_signature": False})["exp"] + 11
    time.sleep(max(0.0, ends - time.time()))
    assert_refused(anonymous.get(PROTECTED, headers=bearer(expiring)))


def test_a_token_for_somebody_else_is_refused(smoke: Smoke, anonymous: httpx.Client) -> None:
    other = smoke.token(resource=login.OTHER_RESOURCE)
    assert jwt.decode(other, options={"verify_signature": False})["aud"] == login.OTHER_AUDIENCE
    assert_refused(anonymous.get(PROTECTED, headers=bearer(other)))


def test_a_token_of_another_issuer_is_refused(smoke: Smoke, anonymous: httpx.Client, token: str) -> None:
    kid = signing_key_id(smoke, token)
    assert_refused(
        anonymous.get(PROTECTED, headers=bearer(forged(token, kid=kid, iss="https://evil.example")))
    )


def test_a_token_with_another_signature_is_refused(smoke: Smoke, anonymous: httpx.Client, token: str) -> None:
    assert_refused(
        anonymous.get(PROTECTED, headers=bearer(forged(token, kid=signing_key_id(smoke, token), sub="admin")))
    )


def test_a_token_without_a_signature_is_refused(smoke: Smoke, anonymous: httpx.Client, token: str) -> None:
    unsigned = jwt.encode(
        jwt.decode(token, options={"verify_signature": False}),
        "",
        algorithm="none",
        headers={"kid": signing_key_id(smoke, token)},
    )
    assert_refused(anonymous.get(PROTECTED, headers=bearer(unsigned)))


def test_a_public_key_is_no_shared_secret(smoke: Smoke, anonymous: httpx.Client, token: str) -> None:
    kid = signing_key_id(smoke, token)
    confused = forged(token, key="public-key-taken-for-a-secret-of-32-octets", algorithm="HS256", kid=kid)
    assert_refused(anonymous.get(PROTECTED, headers=bearer(confused)))


@pytest.mark.parametrize("value", ["Bearer", "Bearer x", "Basic YWRtaW46YWRtaW4=", "Bearer a.b.c", "Token x"])
def test_no_malformed_credentials_get_in_or_a_login_page(anonymous: httpx.Client, value: str) -> None:
    assert_refused(anonymous.get(PROTECTED, headers={"Authorization": value}))
    assert anonymous.get("/", headers={"Authorization": value, **BROWSER}).status_code in (401, 403)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_identity_headers_let_nobody_in(anonymous: httpx.Client, spelling: str) -> None:
    spoofed = {SPELLINGS[spelling](name): SPOOFED for name in IDENTITY_HEADERS}
    assert_refused(anonymous.get(PROTECTED, headers=spoofed))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_identity_headers_change_nobodys_identity(anonymous: httpx.Client, token: str, spelling: str) -> None:
    spoofed = {SPELLINGS[spelling](name): SPOOFED for name in IDENTITY_HEADERS}
    response = anonymous.get(PROTECTED, headers={**bearer(token), **spoofed})
    assert response.status_code == 200, response.text
    assert response.json() == anonymous.get(PROTECTED, headers=bearer(token)).json()
    assert SPOOFED not in response.text


_DIRECT = """
import http.client, json, subprocess, sys
asked = json.load(sys.stdin)
def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout
ids = docker("ps", "-q", "--filter", "label=com.docker.compose.service=" + asked["service"]).split()
networks = json.loads(docker("inspect", ids[0]))[0]["NetworkSettings"]["Networks"]
address = next(network["IPAddress"] for network in networks.values() if network["IPAddress"])
connection = http.client.HTTPConnection(address, asked["port"], timeout=10)
connection.request("GET", asked["path"], headers=asked["headers"])
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode()]))
"""


def direct(outputs: StackOutputs, headers: dict[str, str]) -> tuple[int, str]:
    """Ask the service on its own port, from the host it runs on, past the proxy."""
    state = open_record(outputs.record).state()
    slot = state.host(state.active_host).active_slot
    machine = next(item for item in local.MACHINES if item.name == state.active_host)
    asked = {
        "service": f"{names.AGENTS}-{slot}",
        "port": names.AGENTS_PORT,
        "path": PROTECTED,
        "headers": headers,
    }
    done = subprocess.run(
        ["docker", "exec", "-i", machine.container, "python3", "-c", _DIRECT],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    status, body = json.loads(done.stdout)
    return int(status), str(body)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_identity_headers_count_nothing_past_the_proxy_either(
    outputs: StackOutputs, token: str, spelling: str
) -> None:
    spoofed = {SPELLINGS[spelling](name): SPOOFED for name in IDENTITY_HEADERS}
    assert direct(outputs, spoofed)[0] == 401
    status, body = direct(outputs, {**bearer(token), **spoofed})
    assert status == 200
    assert json.loads(body)["subject"] == login.SMOKE_CLIENT
    assert SPOOFED not in body


@pytest.mark.parametrize(
    "target",
    [
        f"{WEBHOOK_PATH}/../../whoami",
        f"{WEBHOOK_PATH}/%2e%2e/%2e%2e/whoami",
        f"{WEBHOOK_PATH}%2f..%2f..%2fwhoami",
        "/oauth2/../api/whoami",
        "/oauth2/%2e%2e/api/whoami",
        "//api/whoami",
        "/api/./whoami",
        "/API/whoami",
        f"{WEBHOOK_PATH}/",
        f"{WEBHOOK_PATH};/../../whoami",
    ],
)
def test_no_spelling_of_a_path_gets_past_the_login(anonymous: httpx.Client, target: str) -> None:
    response = anonymous.get("/", extensions={"target": target.encode()})
    assert response.status_code in (301, 302, 307, 308, 400, 401, 403, 404), response.text
    if response.has_redirect_location:
        assert not response.headers["location"].startswith("http://")
    assert "subject" not in response.text


def test_plain_http_only_redirects(smoke: Smoke, anonymous: httpx.Client) -> None:
    response = anonymous.get(f"http://{smoke.target.name}/api/whoami?x=1")
    assert response.status_code in (301, 308)
    assert response.headers["location"] == f"https://{smoke.target.name}/api/whoami?x=1"


def test_forwarded_headers_of_a_client_are_not_believed(smoke: Smoke, anonymous: httpx.Client) -> None:
    spoofed = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-For": str(names.TRAEFIK_ADDRESS),
        "X-Real-Ip": str(names.TRAEFIK_ADDRESS),
        "Forwarded": "for=127.0.0.1;host=evil.example;proto=http",
        "X-Forwarded-Uri": WEBHOOK_PATH,
        "X-Forwarded-Method": "OPTIONS",
        "X-Original-Url": WEBHOOK_PATH,
        "X-Rewrite-Url": WEBHOOK_PATH,
    }
    assert_refused(anonymous.get(PROTECTED, headers=spoofed))
    assert "evil.example" not in anonymous.get("/", headers={**BROWSER, **spoofed}).headers["location"]


@pytest.mark.parametrize("signature", [None, "", "sha256=", f"sha256={'0' * 64}", "sha1=0"])
def test_a_webhook_with_a_bad_signature_is_refused(anonymous: httpx.Client, signature: str | None) -> None:
    headers = {} if signature is None else {"X-Hub-Signature-256": signature}
    assert_refused(anonymous.post(WEBHOOK_PATH, content=b'{"entry": []}', headers=headers))


def test_answers_carry_hsts_and_no_server_name(anonymous: httpx.Client, token: str) -> None:
    response = anonymous.get(PROTECTED, headers=bearer(token))
    policy = response.headers["strict-transport-security"]
    assert int(policy.split("max-age=")[1].split(";")[0]) >= 31_536_000
    assert "server" not in response.headers


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(smoke: Smoke, version: ssl.TLSVersion) -> None:
    context = trusting(smoke.target.trust)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    address = (smoke.names.address(smoke.target.name), 443)
    with (
        socket.create_connection(address, timeout=10) as connection,
        pytest.raises(ssl.SSLError, match=r"(?i)version"),
    ):
        context.wrap_socket(connection, server_hostname=smoke.target.name)


def test_an_unknown_name_gets_no_certificate(smoke: Smoke) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = (smoke.names.address(smoke.target.name), 443)
    with socket.create_connection(address, timeout=10) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_hostname="somebody.example")
