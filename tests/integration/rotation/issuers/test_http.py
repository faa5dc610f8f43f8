"""What is said of an issuer's answers: enough to know what is wrong, and no value whatever it answers."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from infra.outputs.model import StackOutputs
from infra.rotation.issuers import (
    IssuerError,
    IssuerGarbageError,
    IssuerRefusedError,
    IssuerUnavailableError,
    issuer,
)
from infra.rotation.issuers.environment import Environment
from infra.rotation.issuers.http import Api, Parsed, bearer, without
from tests.integration.rotation.issuers.conftest import CANARY, Secrets, said_by

VALUE = f'sk-{CANARY}-"quoted"+with/signs=='
FORMS = (
    VALUE,
    quote(VALUE, safe=""),
    json.dumps(VALUE)[1:-1],
    base64.b64encode(VALUE.encode()).decode(),
)


class Made(Parsed):
    id: str
    value: SecretStr


def api(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[Api, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(request)

    transport = httpx.MockTransport(handle)
    return Api("the issuer", "https://issuer.example/", lambda: httpx.Client(transport=transport)), seen


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
@pytest.mark.parametrize(
    "body",
    [
        lambda form: {"error": {"message": f"Incorrect key {form} given", "code": form}},
        lambda form: {"error": f"Incorrect key {form} given"},
        lambda form: {"message": f"Incorrect key {form} given"},
        lambda form: {"error": {"code": form}},
        lambda form: [form],
        lambda form: form,
    ],
)
def test_no_value_of_a_request_is_in_what_is_said(
    form: str, status: int, body: Callable[[str], object]
) -> None:
    asked, _ = api(lambda _: httpx.Response(status, json=body(form)))
    error, shown = said_by(
        lambda: asked.call("GET", "/keys", hidden=(VALUE,), headers=bearer(VALUE), params={"key": VALUE})
    )
    assert str(status) in str(error)
    assert "the issuer" in str(error)
    assert "GET /keys" in str(error)
    assert CANARY not in shown
    assert FORMS[3] not in shown


def test_what_an_issuer_says_is_said() -> None:
    asked, _ = api(lambda _: httpx.Response(400, json={"error": {"message": "Missing scopes:\n api.write"}}))
    error, _ = said_by(lambda: asked.call("POST", "/keys", hidden=()))
    assert str(error) == "the issuer refused POST /keys: 400 (Missing scopes: api.write)"


@pytest.mark.parametrize(
    "said", ["Your key sk-abc0123456789xyz was", "token eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ is bad"]
)
def test_what_looks_like_somebodys_value_is_not_said(said: str) -> None:
    shown = without((), said)
    assert "(hidden)" in shown
    assert "0123456789" not in shown
    assert "eyJhbGci" not in shown


@pytest.mark.parametrize(
    "body",
    [
        {"value": VALUE},
        {"id": 1, "value": VALUE},
        {"id": VALUE, "value": [VALUE]},
        {"id": {VALUE: VALUE}, "value": VALUE},
        [VALUE],
        VALUE,
        None,
    ],
)
def test_a_new_value_in_another_shape_is_garbage_and_not_shown(body: object) -> None:
    asked, _ = api(lambda _: httpx.Response(201, json=body))
    answer = asked.call("POST", "/keys", hidden=())
    assert CANARY not in repr(answer)
    error, shown = said_by(lambda: answer.read(Made))
    assert isinstance(error, IssuerGarbageError)
    assert CANARY not in shown


def test_a_new_value_that_was_read_is_not_shown() -> None:
    asked, _ = api(lambda _: httpx.Response(201, json={"id": "key_1", "value": VALUE}))
    made = asked.call("POST", "/keys", hidden=()).read(Made)
    assert made.value.get_secret_value() == VALUE
    assert CANARY not in f"{made!r} {made}"


def raising(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError(VALUE),
        httpx.ReadTimeout(VALUE),
        httpx.RemoteProtocolError(VALUE),
        httpx.TooManyRedirects(VALUE),
        OSError(VALUE),
    ],
)
def test_what_may_have_happened_is_asked_again_only_where_it_may_be(error: Exception) -> None:
    for method, times in (("GET", 3), ("DELETE", 3), ("POST", 1)):
        asked, seen = api(raising(error))
        caught, shown = said_by(partial(asked.call, method, "/keys", hidden=()))
        assert isinstance(caught, IssuerUnavailableError)
        assert type(error).__name__ in str(caught)
        assert CANARY not in shown
        assert len(seen) == times


def test_a_refusal_is_not_asked_again() -> None:
    asked, seen = api(lambda _: httpx.Response(403))
    with pytest.raises(IssuerRefusedError):
        asked.call("GET", "/keys", hidden=())
    assert len(seen) == 1


def test_what_failed_once_is_asked_again() -> None:
    answers = iter([httpx.Response(503), httpx.Response(200)])
    asked, seen = api(lambda _: next(answers))
    assert asked.call("GET", "/keys", hidden=()).status == 200
    assert len(seen) == 2


def test_a_redirection_is_not_followed() -> None:
    asked, seen = api(lambda _: httpx.Response(302, headers={"location": f"https://else.example/{VALUE}"}))
    error, shown = said_by(lambda: asked.call("GET", "/keys", hidden=(VALUE,), headers=bearer(VALUE)))
    assert isinstance(error, IssuerGarbageError)
    assert CANARY not in shown
    assert len(seen) == 1


@pytest.fixture
def loud() -> Iterator[None]:
    """Logging of libraries as a log file of Ansible has it."""
    logger = logging.getLogger("httpx")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield
    logger.setLevel(before)


def test_libraries_do_not_log_urls(
    loud: None, local_outputs: StackOutputs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    Environment.of(local_outputs, Secrets(), lambda address=None: httpx.Client(transport=transport))
    with httpx.Client(transport=transport) as client:
        client.get(f"https://issuer.example/{CANARY}")
    assert CANARY not in caplog.text


def test_nothing_of_an_environment_shows_values(local_outputs: StackOutputs) -> None:
    driver = issuer("openai-api-key", local_outputs, Secrets())
    assert CANARY not in repr(driver)
    assert issubclass(IssuerGarbageError, IssuerError)
