"""The outside world of the running local stack: every part does what its real counterpart does, and returns.

Whatever a test writes it takes away again; the public record is only ever rewritten with its own address.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import dns.exception
import dns.query
import dns.rcode
import dns.resolver
import dns.tsigkeyring
import dns.update
import docker
import httpx
import jwt
import pytest

from infra import local, paths
from infra.secretstore import open_store
from infra.secretstore.mounts import REGISTRY_USER
from infra.smoke.client import Names, web
from infra.world import login, nameserver, traces, vendors
from tests.waiting import eventually

pytestmark = pytest.mark.system

STACK = "local"
NAMESERVER = str(local.NAMESERVER.address)
RESOLVER = str(local.RESOLVER.address)

Change = Callable[[dns.update.UpdateMessage], None]
Secret = Callable[[str], str]


@pytest.fixture(scope="module")
def secret() -> Secret:
    return open_store({}, STACK).get


@pytest.fixture(scope="module")
def trust() -> str:
    return (paths.mounted_files(STACK, "world") / "ca.pem").read_text()


@pytest.fixture
def client(trust: str) -> Iterator[httpx.Client]:
    with web(Names(local.ZONE, None, [RESOLVER]), trust) as opened:
        yield opened


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    opened = docker.from_env()
    yield opened
    opened.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def records(name: str, kind: str, server: str = NAMESERVER) -> set[str]:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.lifetime = [server], 5.0
    try:
        return {str(record) for record in resolver.resolve(f"{name}.", kind)}
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return set()


def accepted(zone: str, change: Change, key: tuple[str, str] | None) -> bool:
    """Whether the name server took an update, signed with a key (name, secret) or not at all."""
    message = dns.update.UpdateMessage(f"{zone}.")
    if key:
        message.use_tsig(dns.tsigkeyring.from_text(dict([key])), key[0], algorithm=nameserver.TSIG_ALGORITHM)
    change(message)
    try:
        return dns.query.tcp(message, NAMESERVER, timeout=5).rcode() == dns.rcode.NOERROR
    except dns.exception.DNSException:
        # A refusal need not be signed, which this library takes amiss; what counts is that nothing changed.
        return False


def writes(name: str, kind: str, value: str) -> Change:
    return lambda message: message.replace(f"{name}.", nameserver.TTL, kind, value)


@pytest.fixture
def failover(secret: Secret) -> tuple[str, str]:
    return nameserver.FAILOVER_KEY, secret("tsig-failover")


@pytest.fixture
def acme_key(secret: Secret) -> tuple[str, str]:
    return nameserver.ACME_KEY, secret("tsig-acme")


def test_failover_writes_the_public_record(failover: tuple[str, str]) -> None:
    (present,) = records(local.DOMAIN, "A")
    assert accepted(local.ZONE, writes(local.DOMAIN, "A", present), failover)
    assert records(local.DOMAIN, "A") == {present}


@pytest.mark.parametrize(
    ("zone", "name", "kind", "value"),
    [
        (local.ZONE, local.DOMAIN, "TXT", "refused"),
        (local.ZONE, local.STANDBY.host, "A", "192.0.2.1"),
        (local.ZONE, local.REGISTRY.host, "A", "192.0.2.1"),
        (local.ZONE, f"new.{local.ZONE}", "A", "192.0.2.1"),
        (local.CHALLENGE_ZONE, f"agents.{local.CHALLENGE_ZONE}", "TXT", "refused"),
    ],
)
def test_failover_writes_nothing_else(
    failover: tuple[str, str], zone: str, name: str, kind: str, value: str
) -> None:
    before = records(name, kind)
    assert not accepted(zone, writes(name, kind, value), failover)
    assert records(name, kind) == before


def test_acme_writes_challenges_which_the_resolver_shows_at_once(acme_key: tuple[str, str]) -> None:
    name = f"{uuid.uuid4().hex}.{local.CHALLENGE_ZONE}"
    try:
        for value in ("first", "second"):
            assert accepted(local.CHALLENGE_ZONE, writes(name, "TXT", value), acme_key)
            assert records(name, "TXT", RESOLVER) == {f'"{value}"'}
    finally:
        accepted(local.CHALLENGE_ZONE, lambda message: message.delete(f"{name}."), acme_key)


@pytest.mark.parametrize(
    ("zone", "name", "kind", "value"),
    [
        (local.ZONE, local.DOMAIN, "A", "192.0.2.1"),
        (local.ZONE, f"_acme-challenge.new.{local.ZONE}", "TXT", "refused"),
        (local.CHALLENGE_ZONE, f"new.{local.CHALLENGE_ZONE}", "A", "192.0.2.1"),
    ],
)
def test_acme_writes_nothing_else(
    acme_key: tuple[str, str], zone: str, name: str, kind: str, value: str
) -> None:
    before = records(name, kind)
    assert not accepted(zone, writes(name, kind, value), acme_key)
    assert records(name, kind) == before


@pytest.mark.parametrize("key", [None, (nameserver.FAILOVER_KEY, "d3Jvbmc=")], ids=["unsigned", "wrong key"])
def test_who_has_no_key_writes_nothing(key: tuple[str, str] | None) -> None:
    before = records(local.DOMAIN, "A")
    assert not accepted(local.ZONE, writes(local.DOMAIN, "A", "192.0.2.1"), key)
    assert records(local.DOMAIN, "A") == before


def access_token(client: httpx.Client, secret: Secret, **more: str) -> str:
    answer = client.post(
        f"{login.ISSUER}/token",
        data={"grant_type": "client_credentials", **more},
        auth=(login.SMOKE_CLIENT, secret("login-smoke-secret")),
    )
    return str(answer.raise_for_status().json()["access_token"])


def claims(client: httpx.Client, token: str, audience: str) -> dict[str, Any]:
    keys = jwt.PyJWKSet.from_dict(client.get(f"{login.ISSUER}/jwks").json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    found: dict[str, Any] = jwt.decode(
        token, key, algorithms=["RS256"], audience=audience, issuer=login.ISSUER
    )
    return found


def test_the_login_issues_tokens_for_who_asks_and_for_nobody_else(
    client: httpx.Client, secret: Secret
) -> None:
    token = access_token(client, secret)
    assert claims(client, token, login.AUDIENCE)["client_id"] == login.SMOKE_CLIENT
    other = access_token(client, secret, resource=login.OTHER_RESOURCE)
    with pytest.raises(jwt.InvalidAudienceError):
        claims(client, other, login.AUDIENCE)
    wrong = client.post(
        f"{login.ISSUER}/token", data={"grant_type": "client_credentials"}, auth=(login.SMOKE_CLIENT, "wrong")
    )
    assert wrong.status_code == 401


@pytest.mark.parametrize("group", login.TENANT_CLIENTS)
def test_the_login_says_which_tenants_a_program_is_of(
    client: httpx.Client, secret: Secret, group: str
) -> None:
    for name in login.TENANT_CLIENTS[group]:
        answer = client.post(
            f"{login.ISSUER}/token",
            data={"grant_type": "client_credentials"},
            auth=(name, secret("login-smoke-secret")),
        )
        token = str(answer.raise_for_status().json()["access_token"])
        assert claims(client, token, login.AUDIENCE)["tenant_group"] == group


def registry_login(secret: Secret) -> tuple[str, str]:
    return REGISTRY_USER, secret("registry-password")


def pushed(client: httpx.Client, login_: tuple[str, str], content: bytes) -> str:
    """Push a blob and return its URL."""
    base = f"https://{local.REGISTRY.host}/v2/test/world"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    begun = client.post(f"{base}/blobs/uploads/", auth=login_).raise_for_status()
    place = begun.url.join(begun.headers["location"])
    client.put(place.copy_merge_params({"digest": digest}), content=content, auth=login_).raise_for_status()
    return f"{base}/blobs/{digest}"


def test_the_registry_lets_only_its_user_push_and_pull(client: httpx.Client, secret: Secret) -> None:
    assert client.get(f"https://{local.REGISTRY.host}/v2/").status_code == 401
    assert client.get(f"https://{local.REGISTRY.host}/v2/", auth=(REGISTRY_USER, "wrong")).status_code == 401
    content = os.urandom(1024)
    blob = pushed(client, registry_login(secret), content)
    assert client.get(blob).status_code == 401
    assert client.get(blob, auth=registry_login(secret)).content == content
    assert client.delete(blob, auth=registry_login(secret)).status_code == 202
    assert client.get(blob, auth=registry_login(secret)).status_code == 404


def test_a_revoked_model_key_stops_working_at_once(client: httpx.Client, secret: Secret) -> None:
    accounts = f"{vendors.url('openai')}/v1/organization/projects/{vendors.OPENAI_PROJECT}/service_accounts"
    administrator = bearer(secret("openai-admin-key"))
    made = client.post(accounts, json={"name": "test"}, headers=administrator).raise_for_status().json()
    fresh = bearer(made["api_key"]["value"])
    assert client.get(f"{vendors.url('openai')}/v1/models", headers=fresh).status_code == 200
    client.delete(f"{accounts}/{made['id']}", headers=administrator).raise_for_status()
    assert client.get(f"{vendors.url('openai')}/v1/models", headers=fresh).status_code == 401


def posted(client: httpx.Client, secret: Secret, text: str) -> str:
    """Post a message to #ops-ai and return the channel's id."""
    answer = client.post(
        f"{vendors.url('slack')}/api/chat.postMessage",
        json={"channel": "#ops-ai", "text": text},
        headers=bearer(secret("slack-token")),
    ).json()
    assert answer["ok"], answer
    return str(answer["channel"])


def history(client: httpx.Client, secret: Secret, channel: str) -> list[str]:
    answer = client.get(
        f"{vendors.url('slack')}/api/conversations.history",
        params={"channel": channel},
        headers=bearer(secret("slack-token")),
    ).json()
    return [message["text"] for message in answer["messages"]]


def test_a_message_is_read_back(client: httpx.Client, secret: Secret) -> None:
    text = f"test {uuid.uuid4()}"
    assert text in history(client, secret, posted(client, secret, text))


def exported(client: httpx.Client, token: str) -> tuple[int, str]:
    """Send one span; return the answer's status and the trace's id."""
    trace_id = uuid.uuid4().hex
    span = {
        "traceId": trace_id,
        "spanId": trace_id[:16],
        "name": "test",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
    }
    answer = client.post(
        f"https://{local.TRACES.host}:{local.TRACES.port}/v1/traces",
        json={"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]},
        headers=bearer(token),
    )
    return answer.status_code, trace_id


def received(trace_id: str) -> bool:
    done = subprocess.run(
        ["docker", "exec", local.TRACES.container, "grep", "-q", trace_id, traces.sink_file("traces")],
        check=False,
    )
    return done.returncode == 0


def test_the_trace_sink_keeps_what_comes_with_the_token_only(client: httpx.Client, secret: Secret) -> None:
    status, refused = exported(client, "wrong")
    assert status == 401
    status, trace_id = exported(client, secret("otlp-token"))
    assert status == 200
    eventually(lambda: received(trace_id), "the span is in the file")
    assert not received(refused)


def killed(engine: docker.DockerClient, party: local.Party) -> None:
    """Kill a container's main process and wait until the container is healthy again, by itself."""
    container = engine.containers.get(party.container)
    before = container.attrs["RestartCount"]
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)

    def back() -> bool:
        container.reload()
        state = container.attrs["State"]
        restarted = container.attrs["RestartCount"] > before
        return bool(restarted and state["Running"] and state["Health"]["Status"] == "healthy")

    eventually(back, f"{party.container} is back after SIGKILL")


@pytest.mark.parametrize("party", local.PARTIES, ids=lambda party: party.name)
def test_what_was_answered_outlives_a_kill(
    party: local.Party, engine: docker.DockerClient, client: httpx.Client, trust: str, secret: Secret
) -> None:
    text, content = f"test {uuid.uuid4()}", os.urandom(64)
    public = records(local.DOMAIN, "A")
    token = access_token(client, secret)
    blob = pushed(client, registry_login(secret), content)
    channel = posted(client, secret, text)
    _, trace_id = exported(client, secret("otlp-token"))
    eventually(lambda: received(trace_id), "the span is in the file")
    certificates = client.get(f"https://{local.ACME.host}:{local.ACME.port}/roots.pem").text

    killed(engine, party)

    with web(Names(local.ZONE, None, [RESOLVER]), trust) as again:
        assert records(local.DOMAIN, "A", RESOLVER) == public
        assert claims(again, token, login.AUDIENCE)["client_id"] == login.SMOKE_CLIENT
        assert again.get(blob, auth=registry_login(secret)).content == content
        assert text in history(again, secret, channel)
        assert received(trace_id)
        assert again.get(local.ACME_DIRECTORY).status_code == 200
        roots = again.get(f"https://{local.ACME.host}:{local.ACME.port}/roots.pem")
        assert roots.text == certificates
        again.delete(blob, auth=registry_login(secret)).raise_for_status()


def test_a_fault_is_set_at_the_control_port_and_nowhere_else(client: httpx.Client, secret: Secret) -> None:
    control = f"http://{local.VENDORS.address}:{local.VENDORS_CONTROL_PORT}/faults/statuspage"
    page = f"{vendors.url('statuspage')}/v1/pages/{vendors.STATUS_PAGE}/incidents"
    authorization = {"Authorization": f"OAuth {secret('statuspage-token')}"}
    assert client.get(page, headers=authorization).status_code == 200
    httpx.put(control, json={"mode": "down"}).raise_for_status()
    try:
        assert client.get(page, headers=authorization).status_code == 503
    finally:
        httpx.delete(control).raise_for_status()
    assert client.get(page, headers=authorization).status_code == 200
    assert client.get(f"https://{local.VENDORS.host}/faults").status_code == 404
