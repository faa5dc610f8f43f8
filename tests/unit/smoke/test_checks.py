"""Every check against an environment in memory: all pass on a right one, and each planted fault is found."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from infra.outputs.model import HostOutput
from infra.record import Switch
from infra.smoke import __main__ as command
from infra.smoke import checks as checks_module
from infra.smoke import report, traces
from infra.smoke.checks import LoginForm, Smoke
from infra.smoke.report import Result, Status
from infra.smoke.target import BrowserUser, Target

NAME = "agents.local.icupa.dev"
ISSUER = "https://login.local.icupa.dev"
ADDRESS = "10.80.0.20"
FORM = '<form method="post"><input type="email" name="email"><input type="password" name="password"></form>'


WHATSAPP, VOUCHERS = Switch.WHATSAPP_INTEGRATION_ENABLED, Switch.FEATURE_AGENT_VOUCHERS


class Secrets:
    """Every secret's value is its name, with a prefix."""

    def get(self, name: str) -> str:
        return f"value-of-{name}"


@dataclass
class Environment:
    """An edge, a provider and a service that behave, but for the fault."""

    fault: str = ""
    maintenance: bool = False
    off: frozenset[Switch] = frozenset()
    traces: set[str] = field(default_factory=set)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.local.icupa.dev":
            return self._provider(request)
        if request.url.scheme == "http":
            to = "http://elsewhere" if self.fault == "redirect" else f"https://{NAME}{request.url.path}"
            return httpx.Response(308, headers={"location": to})
        open_paths = ("/health", "/health/ready", f"/{self.fault or 'none'}")
        if self.maintenance and request.url.path not in open_paths:
            return self._maintenance(request)
        return self._edge(request)

    def _maintenance(self, request: httpx.Request) -> httpx.Response:
        page = "text/html" in request.headers["accept"] and self.fault != "JSON for browsers"
        kind = f"{'text/html' if page else 'application/json'}; charset=utf-8"
        after = {} if self.fault == "no Retry-After" else {"retry-after": "120"}
        return httpx.Response(503, headers={"content-type": kind, **after})

    def _provider(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/.well-known/openid-configuration":
            return httpx.Response(200, json={"token_endpoint": f"{ISSUER}/token"})
        if path == "/token":
            given = request.headers.get("authorization", "").removeprefix("Basic ")
            known = base64.b64decode(given) == b"checks:value-of-login-smoke-secret"
            return httpx.Response(200 if known else 401, json={"access_token": "right"})
        if path == "/auth":
            return httpx.Response(303, headers={"location": "/interaction/1"})
        if request.method == "GET":
            return httpx.Response(200, text="no form here" if self.fault == "form" else FORM)
        given = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        if given != {"email": "alice@icupa.dev", "password": "value-of-login-password-alice"}:
            return httpx.Response(401, text=FORM)
        return httpx.Response(303, headers={"location": f"https://{NAME}/oauth2/callback"})

    def _edge(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/api/whatsapp/webhook":
            return self._webhook(request)
        if path == "/oauth2/callback":
            return httpx.Response(
                302, headers={"location": "/", "set-cookie": "session=alice; Secure; Path=/"}
            )
        program = request.headers.get("authorization") == "Bearer right"
        person = "session=alice" in request.headers.get("cookie", "")
        if not (program or person) and self.fault != f"open {path}":
            if path.startswith(("/api", "/metrics", "/health")):
                if self.fault == "login page for programs":
                    return httpx.Response(302, headers={"location": f"{ISSUER}/auth"})
                return httpx.Response(401, json={"error": {"code": "token_missing"}})
            query = f"code_challenge=x&redirect_uri=https://{NAME}/oauth2/callback"
            query = "redirect_uri=x" if self.fault == "no PKCE" else query
            return httpx.Response(302, headers={"location": f"{ISSUER}/auth?{query}"})
        return self._service(request, "alice@icupa.dev" if person else None)

    def _webhook(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        if request.method == "GET" and WHATSAPP in self.off:
            return _switched_off(WHATSAPP)
        if request.method == "GET":
            right = query["hub.verify_token"] == "value-of-whatsapp-verify-token"
            if right or self.fault == "any verify token":
                return httpx.Response(200, text=query["hub.challenge"])
            return httpx.Response(403)
        signature = request.headers.get("x-hub-signature-256", "")
        if signature in ("", f"sha256={'0' * 64}") and self.fault != "any signature":
            return httpx.Response(401, json={"error": {"code": "bad_signature"}})
        if WHATSAPP in self.off:
            return _switched_off(WHATSAPP)
        return httpx.Response(200, json={"accepted": 0})

    def _service(self, request: httpx.Request, email: str | None) -> httpx.Response:
        path = request.url.path
        if path == "/api/tools/create_voucher" and VOUCHERS in self.off:
            return _switched_off(VOUCHERS)
        if self.fault == f"broken {path}":
            return httpx.Response(503, json={"error": {"code": "database_unavailable"}})
        if "traceparent" in request.headers and self.fault != "no trace":
            self.traces.add(request.headers["traceparent"].split("-")[1])
        issuer = "https://other" if self.fault == "other issuer" else ISSUER
        status = "lost" if self.fault == "lost write" else "issued"
        answers: dict[str, tuple[int, Any]] = {
            "/health": (200, {"git_sha": "abc1234"}),
            "/health/ready": (200, {"status": "ready"}),
            "/api/whoami": (200, {"subject": "smoke", "issuer": issuer, "email": email}),
            "/api/tools/lookup_customer": (200, {"id": "c1"}),
            "/api/tools/create_voucher": (201, {"policy_number": "AI-1"}),
            "/api/vouchers/AI-1": (200, {"status": status}),
            "/api/tools/void_voucher": (200, {}),
            "/metrics": (200, "agents_build_info 1\n"),
        }
        code, body = answers.get(path, (404, {"error": {"code": "not_found"}}))
        return httpx.Response(code, text=body if isinstance(body, str) else json.dumps(body))

    def services(self, trace_id: str) -> set[str]:
        return {"icupa-agents-service"} if trace_id in self.traces else set()


def _switched_off(switch: Switch) -> httpx.Response:
    return httpx.Response(503, json={"error": {"code": f"switched_off.{switch}"}})


def target(**changes: Any) -> Target:
    values: dict[str, Any] = {
        "stack": "test",
        "name": NAME,
        "domain": NAME,
        "host": HostOutput(
            name="primary", region="primary", role="primary", address=ADDRESS, user="ops", host_key="k"
        ),
        "zone": "local.icupa.dev",
        "nameserver": ("127.0.0.1", 53),
        "resolvers": (),
        "trust": "",
        "issuer": ISSUER,
        "client": "checks",
        "client_secret": "${secret:login-smoke-secret}",
        "secrets": Secrets(),
        "user": BrowserUser("alice@icupa.dev", "login-password-alice"),
        "trace_container": "traces",
        "trace_query": None,
        **changes,
    }
    return Target(**values)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Result]]:
    """Results of all checks over an environment with a fault."""

    def running(
        fault: str = "", address: str = ADDRESS, really_off: frozenset[Switch] | None = None, **changes: Any
    ) -> dict[str, Result]:
        off = changes.get("off", frozenset()) if really_off is None else really_off
        environment = Environment(fault, changes.get("maintenance", False), off)

        def web(names: object, trust: str, **options: Any) -> httpx.Client:
            return httpx.Client(transport=httpx.MockTransport(environment), **options)

        monkeypatch.setattr(checks_module, "web", web)
        monkeypatch.setattr(checks_module, "open_sink", lambda target, client: environment)
        monkeypatch.setattr(traces.await_trace, "__defaults__", (0.0,))
        smoke = Smoke(target(**changes))
        monkeypatch.setattr(smoke.names, "lookup", lambda name: ([address], 15))
        monkeypatch.setattr(smoke, "certificate", lambda: "tested where TLS is")
        return {result.check: result for result in report.run(smoke.checks())}

    return running


def test_all_pass_on_a_right_environment(run: Callable[..., dict[str, Result]]) -> None:
    found = run()
    assert len(found) == 16
    assert {name: result.detail for name, result in found.items() if result.status is not Status.OK} == {}


@pytest.mark.parametrize(
    ("fault", "failing", "detail"),
    [
        ("redirect", {"redirect to https"}, "redirects to 'http://elsewhere'"),
        ("open /api/whoami", {"no token, program"}, "GET /api/whoami answers 200"),
        ("login page for programs", {"no token, program", "metrics need a token"}, "answers 302"),
        ("no PKCE", {"no session, browser"}, "no PKCE challenge"),
        ("form", {"browser login"}, "no login form at login.local.icupa.dev"),
        ("other issuer", {"identity"}, "issuer is https://other"),
        ("broken /health", {"health with token"}, "GET /health answers 503 (database_unavailable)"),
        ("broken /health/ready", {"readiness"}, "answers 503"),
        ("broken /api/tools/lookup_customer", {"tool call"}, "answers 503"),
        ("broken /api/tools/create_voucher", {"write read back"}, "answers 503"),
        ("lost write", {"write read back"}, "voucher AI-1 is 'lost'"),
        ("any verify token", {"webhook verification"}, "answers 200"),
        ("any signature", {"webhook bad signature"}, "answers 200"),
        ("open /metrics", {"metrics need a token"}, "GET /metrics answers 200"),
        ("no trace", {"trace in the sink"}, "no span"),
    ],
)
def test_finds_each_fault_and_no_other(
    run: Callable[..., dict[str, Result]], fault: str, failing: set[str], detail: str
) -> None:
    found = run(fault)
    failed = {name for name, result in found.items() if result.status is Status.FAILED}
    assert failed == failing
    assert any(detail in found[name].detail for name in failing), [found[name].detail for name in failing]


OFF = frozenset({WHATSAPP, VOUCHERS})


def test_what_is_switched_off_must_say_so(run: Callable[..., dict[str, Result]]) -> None:
    found = run(off=OFF)
    assert not report.failed(found.values())
    for name in ("write read back", "webhook verification", "webhook signed"):
        assert "is off: 503, as it must be" in found[name].detail
    assert found["webhook bad signature"].detail == "401"
    assert found["tool call"].status is Status.NOT_CHECKED


@pytest.mark.parametrize(("said", "really"), [(OFF, frozenset[Switch]()), (frozenset[Switch](), OFF)])
def test_a_switch_that_is_not_what_the_record_says_is_found(
    run: Callable[..., dict[str, Result]], said: frozenset[Switch], really: frozenset[Switch]
) -> None:
    failed = {result.check for result in report.failed(run(off=said, really_off=really).values())}
    assert failed == {"write read back", "webhook verification", "webhook signed"}


def test_in_maintenance_its_answer_is_what_is_right(run: Callable[..., dict[str, Result]]) -> None:
    found = run(maintenance=True)
    assert {name: result.detail for name, result in found.items() if result.status is not Status.OK} == {}
    assert found["maintenance, program"].detail == "503, application/json, again after 120 s"
    assert "write read back" not in found
    assert {"health with token", "readiness"} <= set(found)


def test_in_maintenance_the_service_may_be_down() -> None:
    assert "health with token" not in dict(Smoke(target(maintenance=True)).checks(health=False))
    assert "health with token" in dict(Smoke(target()).checks(health=False)), "but only then"


@pytest.mark.parametrize(
    ("fault", "failing", "detail"),
    [
        ("JSON for browsers", {"maintenance, browser"}, "503 as 'application/json; charset=utf-8'"),
        (
            "no Retry-After",
            {"maintenance, browser", "maintenance, program", "maintenance, webhook"},
            "503 with Retry-After ''",
        ),
        ("api/whoami", {"maintenance, program"}, "answers 401"),
        ("api/whatsapp/webhook", {"maintenance, webhook"}, "answers 401"),
        ("broken /health", {"health with token"}, "answers 503"),
    ],
)
def test_in_maintenance_each_fault_is_found(
    run: Callable[..., dict[str, Result]], fault: str, failing: set[str], detail: str
) -> None:
    found = run(fault, maintenance=True)
    assert {name for name, result in found.items() if result.status is Status.FAILED} == failing
    assert any(detail in found[name].detail for name in failing), [found[name].detail for name in failing]


def test_a_name_that_points_elsewhere_is_found(run: Callable[..., dict[str, Result]]) -> None:
    found = run(address="10.80.0.30")["dns"]
    assert found.status is Status.FAILED
    assert found.detail == "10.80.0.30, not 10.80.0.20 of primary"


def test_what_an_environment_does_not_allow_is_said(run: Callable[..., dict[str, Result]]) -> None:
    result = run(user=None)["browser login"]
    assert (result.status, result.detail) == (
        Status.NOT_CHECKED,
        "no user whose password a program may type",
    )
    assert "not checked" in result.line


def test_no_value_of_a_secret_is_printed(run: Callable[..., dict[str, Result]]) -> None:
    for fault in ("", "any verify token", "form"):
        assert "value-of-" not in "".join(result.line for result in run(fault).values())


def test_reads_the_fields_of_the_form_that_asks_for_a_password() -> None:
    page = (
        '<form action="/search"><input name="q"></form>'
        '<form action="/in"><input type="hidden" name="csrf" value="t"><input name="user">'
        '<input type="password" name="pw"></form><form action="/out"><input name="x"></form>'
    )
    form = LoginForm(page)
    assert form.action == "/in"
    assert form.filled("ada", "secret") == {"csrf": "t", "user": "ada", "pw": "secret"}


def test_a_failed_check_does_not_stop_the_next_one() -> None:
    def broken() -> str:
        raise KeyError("policy_number")

    first, second = report.run([("one", broken), ("two", lambda: "fine")])
    assert (first.status, first.detail) == (Status.FAILED, "KeyError: 'policy_number'")
    assert second.status is Status.OK


@pytest.mark.parametrize("outcome", [("", 0), ("lost write", 1)])
def test_the_command_has_an_exit_code_and_a_report(
    run: Callable[..., dict[str, Result]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outcome: tuple[str, int],
) -> None:
    fault, code = outcome
    results = list(run(fault).values())
    monkeypatch.setattr(command, "read_outputs", lambda stack, file: None)
    monkeypatch.setattr(command, "find_target", lambda outputs, stack, region: target())
    monkeypatch.setattr(report, "run", lambda checks: iter(results))
    assert command.main(["--stack", "test", "--report", str(tmp_path / "r" / "smoke.json")]) == code
    assert len(capsys.readouterr().out.splitlines()) == len(results) + 1
    document = json.loads((tmp_path / "r" / "smoke.json").read_text())
    assert document["passed"] is (code == 0)
    assert [item["check"] for item in document["checks"]] == [result.check for result in results]


def test_no_stack_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("ICUPA_STACK", raising=False)
    with pytest.raises(SystemExit):
        command.main([])
    assert "no stack named" in capsys.readouterr().err
