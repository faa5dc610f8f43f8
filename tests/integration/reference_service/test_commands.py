"""Commands that procedures run from the release's image."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import uvicorn

from reference.agents_service import __main__ as command_line
from reference.agents_service import logs, smoke, upgrade, vector_stores
from reference.agents_service.config import OpenAISettings, load
from reference.agents_service.revision import REVISION
from tests.unit.reference_service.conftest import Service
from tests.unit.reference_service.fakes import FakeStore, Vendors


@dataclass
class VectorStores:
    """OpenAI's files and vector stores."""

    stores: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {"vs_menu": {}, "vs_allergens": {}, "vs_policies": {}}
    )
    statuses: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path.removeprefix("/v1")
        self.calls.append((method, path))
        if path == "/files":
            self.count += 1
            return httpx.Response(200, json={"id": f"file-{self.count}"})
        _, _, store_id, _, *rest = path.split("/")
        files = self.stores.get(store_id)
        if files is None:
            return httpx.Response(404)
        if method == "POST":
            body = json.loads(request.content)
            file = {"id": body["file_id"], "attributes": body["attributes"], "status": self._status()}
            files[file["id"]] = file
            return httpx.Response(200, json=file)
        if method == "DELETE":
            del files[rest[0]]
            return httpx.Response(200, json={})
        if rest:
            files[rest[0]]["status"] = self._status()
            return httpx.Response(200, json=files[rest[0]])
        after = parse_qs(request.url.query.decode()).get("after", [""])[0]
        ids = [name for name in sorted(files) if name > after]
        page = [files[name] for name in ids[:1]]
        return httpx.Response(200, json={"data": page, "has_more": len(ids) > 1})

    def _status(self) -> str:
        return self.statuses.pop(0) if self.statuses else "completed"

    async def sync(self) -> list[str]:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return await vector_stores.sync(load(OpenAISettings), client)


async def test_vector_stores_get_what_is_missing_and_lose_what_is_outdated() -> None:
    api = VectorStores()
    api.stores["vs_menu"] = {
        "file-a": {"id": "file-a", "attributes": {"sha256": "0" * 64}, "status": "completed"},
        "file-b": {"id": "file-b", "attributes": None, "status": "completed"},
    }
    assert await api.sync() == [
        "menu\tvs_menu\tadded 1, removed 1, kept 0",
        "allergens\tvs_allergens\tadded 1, removed 0, kept 0",
        "policies\tvs_policies\tadded 1, removed 0, kept 0",
    ]
    menu = [call for call in api.calls if "vs_menu" in call[1]]
    order = [method for method, _ in menu if method != "GET"]
    assert order == ["POST", "DELETE"], "nothing is taken away before its successor is there"
    assert "file-b" in api.stores["vs_menu"], "a file that somebody else put there stays"
    assert [line.split("\t")[2] for line in await api.sync()] == ["added 0, removed 0, kept 1"] * 3


async def test_processing_is_awaited() -> None:
    api = VectorStores(statuses=["in_progress", "in_progress", "completed"])
    assert (await api.sync())[0].endswith("added 1, removed 0, kept 0")


async def test_a_document_that_cannot_be_processed_is_an_error_and_replaced_next_time() -> None:
    api = VectorStores(statuses=["failed"])
    with pytest.raises(vector_stores.SyncError, match=r"menu: .*\.md ended as failed"):
        await api.sync()
    assert (await api.sync())[0] == "menu\tvs_menu\tadded 1, removed 1, kept 0"


async def test_a_store_that_is_not_there_is_named() -> None:
    api = VectorStores()
    del api.stores["vs_allergens"]
    with pytest.raises(vector_stores.SyncError, match=r"allergens: GET .*vs_allergens/files: status 404"):
        await api.sync()


def test_a_release_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vector_stores.SyncError, match="no documents for menu"):
        vector_stores.documents("menu", tmp_path)


@pytest.fixture
def supabase(vendors: Vendors, monkeypatch: pytest.MonkeyPatch) -> Vendors:
    client = httpx.AsyncClient
    transport = httpx.MockTransport(vendors.answer)
    monkeypatch.setattr(httpx, "AsyncClient", lambda: client(transport=transport))
    return vendors


def test_flags_are_set_disabled_and_listed(supabase: Vendors, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["flags", "set", "a.enabled", "on"]) == 0
    assert command_line.main(["flags", "set", "b.enabled", "on", "--group", "pilot"]) == 0
    capsys.readouterr()
    assert command_line.main(["flags", "disable", "a.enabled", "c.enabled"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        [key, group, state]
        for key, group, state in [
            ("a.enabled", "full", "off"),
            ("a.enabled", "internal", "off"),
            ("a.enabled", "pilot", "off"),
            ("b.enabled", "pilot", "on"),
            ("c.enabled", "full", "off"),
            ("c.enabled", "internal", "off"),
            ("c.enabled", "pilot", "off"),
        ]
    ]
    request = supabase.requests[-1]
    assert request.headers["apikey"] == "service-role-key-0123"
    assert "service-role-key-0123" not in str(request.url)


def test_flags_tell_when_supabase_is_away(supabase: Vendors, capsys: pytest.CaptureFixture[str]) -> None:
    supabase.flags_down = True
    assert command_line.main(["flags", "list"]) == 1
    assert capsys.readouterr().err == "flags: Supabase answered 503\n"


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("healthcheck", ("pydantic", "sqlalchemy", "psycopg", "fastapi", "structlog")),
        ("smoke", ("sqlalchemy", "psycopg", "fastapi", "starlette", "alembic", "structlog")),
        ("migrate", ("sqlalchemy", "alembic", "httpx", "fastapi", "structlog", "opentelemetry")),
        ("check-schema", ("sqlalchemy", "alembic", "httpx", "fastapi", "structlog", "opentelemetry")),
        ("flags", ("sqlalchemy", "psycopg", "alembic", "fastapi")),
        ("sync-vector-stores", ("sqlalchemy", "psycopg", "alembic", "fastapi", "structlog")),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_need(name: str, never: tuple[str, ...]) -> None:
    """A deploy runs them beside a service that needs the same processors."""
    script = (
        "import sys; from reference.agents_service.commands import command;"
        f" command({name!r}); print([module for module in {never!r} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_schema_revision_is_the_newest_migration() -> None:
    assert upgrade.head() == REVISION


def test_a_database_that_is_away_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://agents:database-password@127.0.0.1:1/agents")
    for command in ("migrate", "check-schema"):
        assert command_line.main([command]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"{command}: database: ")
        assert "refused" in error
        assert "database-password" not in error


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    """Serve the application on a real port; what it logs is not what a command prints."""
    logs.configure("warning", logs.Redactor())
    app = service.client._transport.app  # type: ignore[attr-defined]
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    started = threading.Event()
    thread = threading.Thread(target=server.run, daemon=True)

    async def startup(sockets: object = None) -> None:
        await uvicorn.Server.startup(server)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread.start()
    assert started.wait(10)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def report(address: str, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    monkeypatch.setenv("AGENTS_URL", address)
    monkeypatch.setenv("SMOKE_TOKEN", service.login.token())
    monkeypatch.setenv("SMOKE_REPORT_FILE", str(path))
    return path


def test_smoke_tells_how_each_check_went(
    report: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines] == ["ok   "] * 9
    assert [result["passed"] for result in json.loads(report.read_text())] == [True] * 9
    assert [voucher.status for voucher in store.vouchers.values()] == ["voided"]

    store.down = True
    monkeypatch.setenv("SMOKE_EXPECT_GIT_SHA", "fffffff")
    assert command_line.main(["smoke"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL ")]
    assert [line.split(":")[0] for line in failed] == ["FAIL health", "FAIL readiness"]
    assert "running abc123, expected fffffff" in failed[0]


PARTS = ("AI_RESPONSES_ENABLED", "FEATURE_AGENT_VOUCHERS")


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PARTS:
        monkeypatch.setenv(name, "false")


@pytest.mark.usefixtures("off", "report")
def test_smoke_wants_what_is_switched_off_to_say_so(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["smoke"]) == 0
    said = capsys.readouterr().out
    assert said.count("AI_RESPONSES_ENABLED is off, and says so") == 2
    assert said.count("FEATURE_AGENT_VOUCHERS is off, and says so") == 1
    assert not store.vouchers

    for name in PARTS:
        monkeypatch.delenv(name)
    assert command_line.main(["smoke"]) == 1, "it was not told that they are off"
    assert "503 (switched_off.AI_RESPONSES_ENABLED)" in capsys.readouterr().out


@pytest.mark.usefixtures("report")
def test_smoke_fails_where_what_should_be_off_is_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEATURE_AGENT_CHAT", "false")
    assert command_line.main(["smoke"]) == 1
    assert "FEATURE_AGENT_CHAT is off, and /api/agents/sessions answers 201" in capsys.readouterr().out


def test_smoke_fails_with_a_bad_token(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"AGENTS_URL": address, "SMOKE_TOKEN": "not-a-token"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert smoke.main(load(smoke.SmokeSettings)) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL ")]
    assert len(failed) == 6
    assert all("401 (token_malformed)" in line or "status 401" in line for line in failed)


def test_healthcheck_follows_readiness(
    address: str, store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["healthcheck", "--url", f"{address}/health/ready"]
    assert command_line.main(check) == 0
    store.down = True
    assert command_line.main(check) == 1
    assert command_line.main(["healthcheck", "--url", "http://127.0.0.1:1/health"]) == 1
    assert "ConnectError" in capsys.readouterr().err
