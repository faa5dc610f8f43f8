"""Values of our own, tried at the service and at the login themselves."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from infra.config.load import load_file
from infra.config.model import Role
from infra.outputs.model import StackOutputs
from infra.rotation.issuers import (
    Issuer,
    IssuerGarbageError,
    IssuerUnavailableError,
    NoIssuerError,
    OnHostsError,
    issuer,
)
from infra.rotation.issuers.consumers import Consumers, metrics_check
from infra.secrets.references import side
from infra.services.context import Context
from infra.services.model import Slot
from reference.agents_service.app import Parts, create_app
from reference.agents_service.config import Settings, load
from reference.agents_service.drain import Drain
from reference.agents_service.metrics import Metrics
from reference.agents_service.ratelimit import RateLimiter
from reference.agents_service.telemetry import Telemetry
from tests.integration.rotation.issuers.conftest import CANARY, Secrets, Wire, said_by, served
from tests.integration.services.edge import (
    Login,
    await_condition,
    free_port,
    login_file,
    running_process,
    serving,
    tool,
)
from tests.unit.reference_service.fakes import ENVIRONMENT, FakeStore, IdentityProvider, Vendors

PRIMARY, STANDBY = "127.0.0.2", "127.0.0.3"
LABEL = "icupa-local-rotate-0123456789ab"
VARIABLES = {"whatsapp-verify-token": "WHATSAPP_VERIFY_TOKEN", "whatsapp-app-secret": "WHATSAPP_APP_SECRET"}

Start = Callable[..., int]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the service with some variables changed; its port."""
    with ExitStack() as running:

        def started(**variables: str) -> int:
            for name, value in {**ENVIRONMENT, **variables}.items():
                monkeypatch.setenv(name, value)
            settings, metrics, login = load(Settings), Metrics(), IdentityProvider()
            parts = Parts(
                settings=settings,
                metrics=metrics,
                telemetry=Telemetry(settings),
                drain=Drain(),
                store=FakeStore(),
                client=httpx.AsyncClient(transport=httpx.MockTransport(Vendors().answer)),
                login_client=httpx.AsyncClient(transport=httpx.MockTransport(login.answer)),
                limiter=RateLimiter(None, settings.rate_limit_per_minute, metrics),
            )
            return running.enter_context(served(create_app(parts)))

        yield started


def driver(name: str, outputs: StackOutputs, wire: Wire) -> Consumers:
    found = issuer(name, outputs, Secrets(), web=wire)
    assert isinstance(found, Consumers)
    return found


@pytest.mark.parametrize("name", VARIABLES)
def test_each_host_is_asked_which_value_it_has_in_use(
    local_outputs: StackOutputs, start: Start, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")
    caplog.set_level(logging.DEBUG, logger="httpcore")
    old, new = f"{CANARY}-old-value-012345", f"{CANARY}-new-value-012345"
    wire = Wire({PRIMARY: start(**{VARIABLES[name]: new}), STANDBY: start(**{VARIABLES[name]: old})})
    consumers = driver(name, local_outputs, wire)
    assert consumers.accepted_by(new) == {"primary": True, "standby": False}
    assert consumers.accepted_by(old) == {"primary": False, "standby": True}
    assert consumers.accepts(old), "one host still has it"
    wire.ports[STANDBY] = wire.ports[PRIMARY]
    assert not consumers.accepts(old)
    assert consumers.accepts(new)
    assert CANARY not in caplog.text
    del wire.ports[STANDBY]
    error, shown = said_by(lambda: consumers.accepts(new))
    assert isinstance(error, IssuerUnavailableError)
    assert "host standby did not answer" in shown
    assert CANARY not in shown


@pytest.mark.parametrize("name", VARIABLES)
def test_a_switch_that_is_off_is_no_answer(local_outputs: StackOutputs, start: Start, name: str) -> None:
    port = start(WHATSAPP_INTEGRATION_ENABLED="false")
    consumers = driver(name, local_outputs, Wire({PRIMARY: port, STANDBY: port}))
    value = ENVIRONMENT[VARIABLES[name]]
    error, shown = said_by(lambda: consumers.accepts(value))
    assert isinstance(error, IssuerUnavailableError)
    assert "503" in shown
    assert value not in shown


def test_a_value_is_made_here_and_known_to_nobody(local_outputs: StackOutputs) -> None:
    made = driver("oauth2-proxy-cookie-secret", local_outputs, Wire({}))
    assert isinstance(made, Issuer)
    first, second = made.create(LABEL), made.create(LABEL)
    assert first.id == LABEL
    assert first.value != second.value
    assert len(base64.urlsafe_b64decode(first.value)) == 32
    assert made.labelled(LABEL) == []
    assert made.current(first.value) == made.current(second.value)
    made.revoke(first.id)


def test_the_token_of_metrics_is_tried_on_the_hosts(local_outputs: StackOutputs) -> None:
    consumers = driver("metrics-token", local_outputs, Wire({}))
    with pytest.raises(OnHostsError, match="ask the service on each host"):
        consumers.accepts(CANARY)
    check = metrics_check(Slot.GREEN, CANARY)
    assert (check["service"], check["path"], check["bearer"]) == ("agents-green", "/metrics", CANARY)


@pytest.mark.parametrize("old", ["one", "two", "three", "four"])
def test_a_password_of_the_service_is_of_the_other_role(local_outputs: StackOutputs, old: str) -> None:
    secrets = Secrets({"postgres-app-password": old})
    made = issuer("postgres-app-password", local_outputs, secrets, web=Wire({}))
    for _ in range(10):
        assert side(made.create(LABEL).value) != side(old)


@pytest.mark.parametrize("name", ["postgres-app-password", "postgres-owner-password", "redis-password"])
def test_databases_that_somebody_else_runs_are_given_passwords_by_hand(
    local_outputs: StackOutputs, name: str
) -> None:
    with pytest.raises(OnHostsError):
        driver(name, local_outputs, Wire({})).accepts(CANARY)
    project: dict[str, dict[str, dict[str, dict[str, str]]]] = {"compose": {"services": {"agents-blue": {}}}}
    elsewhere = local_outputs.model_copy(update={"projects": {"primary": project}})
    with pytest.raises(NoIssuerError, match=r"give .* the new password where"):
        issuer(name, elsewhere, Secrets())


# --- the login


@pytest.fixture(scope="module")
def logins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Port of an oauth2-proxy as it is rendered, by its cookie secret; two."""
    stack = load_file("local")
    machine = stack.hosts.machines[0]
    context = replace(Context("local", stack, machine.region, Role.PRIMARY), trust_certificates=())
    with ExitStack() as running:
        login = Login(running.enter_context(serving("login")))
        login.publish()
        ports = {}
        for number in range(2):
            home = tmp_path_factory.mktemp(f"login{number}")
            secret = base64.urlsafe_b64encode(os.urandom(32)).decode()
            mine = {"login": free_port(), "metrics": free_port()}
            environment = {
                "OAUTH2_PROXY_CLIENT_ID": stack.login.client_id,
                "OAUTH2_PROXY_CLIENT_SECRET": "not-used-here",
                "OAUTH2_PROXY_COOKIE_SECRET": secret,
            }
            configuration = login_file(context, home, mine, login.issuer)
            log = home / "log"
            command = [tool("oauth2-proxy"), f"--config={configuration}"]
            running.enter_context(running_process(command, log, environment))
            ready = f"http://127.0.0.1:{mine['login']}/ready"
            await_condition("oauth2-proxy", lambda at=ready: httpx.get(at).status_code == 200, log)
            ports[secret] = mine["login"]
        yield ports


def test_the_login_shows_which_cookie_secret_it_has(
    local_outputs: StackOutputs, logins: dict[str, int]
) -> None:
    (old, before), (new, after) = logins.items()
    wire = Wire({PRIMARY: after, STANDBY: before})
    consumers = driver("oauth2-proxy-cookie-secret", local_outputs, wire)
    assert consumers.accepted_by(new) == {"primary": True, "standby": False}
    assert consumers.accepted_by(old) == {"primary": False, "standby": True}
    wire.ports[STANDBY] = after
    assert not consumers.accepts(old)


def test_a_login_without_its_cookie_is_no_answer(local_outputs: StackOutputs, start: Start) -> None:
    with serving("something else") as stub:
        wire = Wire({PRIMARY: stub.port, STANDBY: stub.port})
        consumers = driver("oauth2-proxy-cookie-secret", local_outputs, wire)
        error, shown = said_by(lambda: consumers.accepts(CANARY))
    assert isinstance(error, IssuerGarbageError)
    assert CANARY not in shown


def test_nothing_of_it_is_written(tmp_path: Path, local_outputs: StackOutputs) -> None:
    assert CANARY not in repr(driver("whatsapp-app-secret", local_outputs, Wire({})))
    assert list(tmp_path.iterdir()) == []
