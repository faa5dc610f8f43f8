"""The reference service on a real PostgreSQL: migrations, rights, budgets and writes under concurrency.

Takes the server named by TEST_POSTGRES_URL (a superuser's URL); else starts one of its own from the image of
the running stack.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from sqlalchemy import make_url

from reference.agents_service import migrate as migrations
from reference.agents_service import upgrade
from reference.agents_service.config import MigrationSettings
from reference.agents_service.database import create_engine, url
from reference.agents_service.errors import ApiError, DailyBudgetExceededError, SessionBudgetExceededError
from reference.agents_service.revision import REVISION
from reference.agents_service.schema import metadata
from reference.agents_service.store import Event, PostgresStore, Usage
from tests.waiting import eventually

pytestmark = pytest.mark.system

PASSWORD = "app-password"
MACHINE = "icupa-local-primary"
CONTAINER = "icupa-local-test-postgres"
IMAGE = "icupa-local/test-postgres:latest"


def _docker(*command: str, data: bytes | None = None) -> str:
    done = subprocess.run(["docker", *command], input=data, capture_output=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(command)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def _load_stack_image() -> None:
    """Copy the stack's image of PostgreSQL from its primary machine's engine to this machine's, as IMAGE."""
    service = "label=com.docker.compose.service=postgres"
    container = _docker("exec", MACHINE, "docker", "ps", "--quiet", "--filter", service)
    identifier = _docker("exec", MACHINE, "docker", "inspect", "--format", "{{.Image}}", container)
    _docker("exec", MACHINE, "docker", "tag", identifier, IMAGE)
    save = ["docker", "exec", MACHINE, "docker", "save", IMAGE]
    saved = subprocess.run(save, capture_output=True, check=True)
    _docker("exec", MACHINE, "docker", "rmi", IMAGE)
    _docker("load", data=saved.stdout)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Return the URL of a superuser on an empty server."""
    named = os.environ.get("TEST_POSTGRES_URL")
    if named:
        yield named
        return
    script = (
        f"initdb -D /tmp/data -U postgres -A scram-sha-256 --pwfile=<(echo {PASSWORD}) --encoding=UTF8"
        " --locale=C.UTF-8 --no-sync >/dev/null"
        " && echo 'host all all all scram-sha-256' >> /tmp/data/pg_hba.conf"
        " && exec postgres -D /tmp/data -c 'listen_addresses=*' -c fsync=off"
    )
    options = ("--detach", "--name", CONTAINER, "--tmpfs", "/tmp:mode=1777", "--publish", "127.0.0.1::5432")
    with ExitStack() as undo:
        _load_stack_image()
        undo.callback(_docker, "rmi", IMAGE)
        _docker("run", *options, "--entrypoint", "bash", IMAGE, "-c", script)
        undo.callback(_docker, "rm", "--force", "--volumes", CONTAINER)
        url = f"postgresql://postgres:{PASSWORD}@{_docker('port', CONTAINER, '5432/tcp')}/postgres"
        eventually(lambda: _answers(url), "PostgreSQL answers", pardoned=(psycopg.OperationalError,))
        yield url


def _answers(url: str) -> bool:
    with psycopg.connect(url, connect_timeout=2):
        return True


@pytest.fixture
def settings(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MigrationSettings]:
    """Make an empty database with an owner who is no superuser."""
    suffix = uuid.uuid4().hex[:8]
    database, owner, application = f"agents_{suffix}", f"owner_{suffix}", f"app_{suffix}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
        admin.execute(f"CREATE DATABASE {database} OWNER {owner}")
    for name in list(os.environ):
        if name.startswith("DATABASE_"):
            monkeypatch.delenv(name)
    url = make_url(server).set(drivername="postgresql", database=database)
    as_owner = url.set(username=owner, password=PASSWORD)
    as_application = url.set(username=application, password=PASSWORD)
    monkeypatch.setenv("DATABASE_OWNER_URL", as_owner.render_as_string(hide_password=False))
    monkeypatch.setenv("DATABASE_URL", as_application.render_as_string(hide_password=False))
    yield MigrationSettings()
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
        admin.execute(f"DROP ROLE IF EXISTS {application}")
        admin.execute(f"DROP ROLE {owner}")


@pytest.fixture
async def store(settings: MigrationSettings) -> AsyncIterator[PostgresStore]:
    migrations.migrate(settings)
    engine = create_engine(settings)
    yield PostgresStore(engine)
    await engine.dispose()


def application(settings: MigrationSettings) -> psycopg.Connection[tuple[object, ...]]:
    login = url(settings.application()).set(drivername="postgresql")
    return psycopg.connect(login.render_as_string(hide_password=False), autocommit=True)


def test_migrations_run_once_whoever_starts_them(settings: MigrationSettings) -> None:
    with pytest.raises(migrations.MigrationError), application_exists(settings):
        migrations.check_schema(settings)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrations.migrate(settings), range(4)))
    assert (
        sorted(done)
        == [f"schema migrated to revision {REVISION}"] + [f"schema serves revision {REVISION} already"] * 3
    )
    assert migrations.check_schema(settings) == f"schema serves revision {REVISION}"


class application_exists:  # noqa: N801 - reads as a statement
    """Make the application's role before the migration does."""

    def __init__(self, settings: MigrationSettings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        login = url(self._settings.owner()).set(drivername="postgresql")
        with psycopg.connect(login.render_as_string(hide_password=False), autocommit=True) as owner:
            role = self._settings.application().user
            owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")

    def __exit__(self, *_: object) -> None:
        return None


def test_head_of_the_migrations_is_what_the_code_needs() -> None:
    assert upgrade.head() == REVISION


class Later:
    """Later releases: the migrations of this one and some more, in a directory of their own."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self._directory = directory / "migrations"
        self._patch = patch
        shutil.copytree(Path(migrations.__file__).parent / "migrations", self._directory)
        config = Config()
        config.set_main_option("script_location", str(self._directory))
        patch.setattr(upgrade, "alembic_config", lambda: config)

    def add(self, revision: str, before: str, declared: str, statement: str) -> None:
        """Add a revision."""
        text = (
            f"from alembic import op\nrevision = {revision!r}\ndown_revision = {before!r}\n{declared}\n"
            f"def upgrade():\n    op.execute({statement!r})\n"
        )
        (self._directory / "versions" / f"rev_{revision}.py").write_text(text)

    def release(self, revision: str) -> None:
        """Be the release that needs a revision."""
        self._patch.setattr(migrations, "REVISION", revision)


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Later:
    releases = Later(tmp_path, monkeypatch)
    releases.add("0002", REVISION, "kind = 'expand'", "ALTER TABLE customers ADD COLUMN language text")
    return releases


CONTRACT = f"kind, ends = 'contract', ({REVISION!r},)"


def test_a_plan_is_what_migrate_then_does(settings: MigrationSettings, later: Later) -> None:
    first = migrations.Step(REVISION, migrations.Kind.EXPAND)
    second = migrations.Step("0002", migrations.Kind.EXPAND)
    third = migrations.Step("0003", migrations.Kind.CONTRACT, (REVISION,))
    later.release("0002")
    assert migrations.plan(settings) == migrations.Plan("0002", None, (), (first, second))
    assert migrations.plan(settings).at is None, "a plan changes nothing"
    migrations.migrate(settings)
    assert migrations.plan(settings) == migrations.Plan("0002", "0002", (REVISION, "0002"), ())
    later.release(REVISION)
    assert migrations.check_schema(settings), "the older release runs on"
    later.add("0003", "0002", CONTRACT, "ALTER TABLE customers DROP COLUMN name")
    later.release("0003")
    assert migrations.plan(settings) == migrations.Plan("0003", "0002", (REVISION, "0002"), (third,))
    migrations.migrate(settings)
    assert migrations.plan(settings) == migrations.Plan("0003", "0003", ("0002", "0003"), ())


def test_a_release_that_a_contract_left_behind_is_told_so(
    settings: MigrationSettings, later: Later, tmp_path: Path
) -> None:
    later.add("0003", "0002", CONTRACT, "ALTER TABLE customers DROP COLUMN name")
    later.release("0003")
    migrations.migrate(settings)
    for revision in ("0002", "0003"):
        (tmp_path / "migrations" / "versions" / f"rev_{revision}.py").unlink()
    later.release(REVISION)
    problem = (
        "the schema is at revision 0003, which this release does not know, and serves 0002, 0003;"
        f" this release needs {REVISION}"
    )
    assert migrations.plan(settings).problem == problem
    with pytest.raises(migrations.MigrationError, match=problem):
        migrations.migrate(settings)


def test_a_release_that_no_migration_serves_is_told_so(settings: MigrationSettings, later: Later) -> None:
    migrations.migrate(settings)
    later.release("9999")
    problem = "needs schema revision 9999, which none of its migrations"
    assert problem in migrations.plan(settings).problem
    with pytest.raises(migrations.MigrationError, match=problem):
        migrations.migrate(settings)
    later.release(REVISION)
    assert migrations.plan(settings).serves == (REVISION, "0002")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("", "revision 0003 declares kind None; accepted: expand, contract"),
        ("kind = 'drop'", "revision 0003 declares kind 'drop'"),
        ("kind = 'contract'", "revision 0003: contract migrations, and only those, declare what they end"),
        (f"kind, ends = 'expand', ({REVISION!r},)", "revision 0003: contract migrations, and only those"),
    ],
)
def test_a_migration_must_say_what_it_does_to_older_releases(
    declared: str, said: str, settings: MigrationSettings, later: Later
) -> None:
    later.add("0003", "0002", declared, "SELECT 1")
    later.release("0003")
    for act in (migrations.plan, migrations.migrate):
        with pytest.raises(migrations.MigrationError, match=said):
            act(settings)


def test_the_commands_say_how_it_went(settings: MigrationSettings) -> None:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "reference.agents_service", *command]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    planned = json.loads(run("migrate", "--plan").stdout)
    assert [step["revision"] for step in planned["pending"]] == [REVISION]
    assert planned["problem"] == ""
    assert run("migrate").stdout == f"schema migrated to revision {REVISION}\n"
    assert json.loads(run("migrate", "--plan").stdout) == {
        "needs": REVISION, "at": REVISION, "serves": [REVISION], "pending": [], "problem": ""
    }  # fmt: skip
    assert run("check-schema").returncode == 0
    login = url(settings.owner()).set(drivername="postgresql")
    with psycopg.connect(login.render_as_string(hide_password=False)) as owner:
        owner.execute("DELETE FROM schema_revisions")
    failed = run("check-schema")
    assert failed.returncode == 1
    assert failed.stderr == (
        f"check-schema: this release needs schema revision {REVISION}; the schema serves: none\n"
    )


def test_a_changed_password_is_set_by_the_next_migration(
    settings: MigrationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.migrate(settings)
    changed = url(settings.application()).set(drivername="postgresql", password="other-password")
    monkeypatch.setenv("DATABASE_URL", changed.render_as_string(hide_password=False))
    migrations.migrate(MigrationSettings())
    assert migrations.check_schema(MigrationSettings())


async def test_tables_are_as_the_code_knows_them(settings: MigrationSettings, store: PostgresStore) -> None:
    with application(settings) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ).fetchall()
    known = {(table.name, column.name) for table in metadata.tables.values() for column in table.columns}
    assert set(rows) - {("alembic_version", "version_num")} == known
    assert await store.supported_revisions() == {REVISION}


async def test_the_application_owns_nothing_and_cannot_rewrite_events(
    settings: MigrationSettings, store: PostgresStore
) -> None:
    await store.add_event(Event("ai.guardrail.breach", "guardrail", {"rule": "x"}))
    with application(settings) as connection:
        for statement in (
            "DELETE FROM agent_events",
            "UPDATE agent_events SET kind = 'x'",
            "DELETE FROM vouchers",
            "DROP TABLE customers",
            "CREATE TABLE mine (id int)",
            "UPDATE schema_revisions SET revision = 'x'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_concurrent_turns_never_exceed_the_budgets(store: PostgresStore) -> None:
    sessions = [await store.create_session(f"user-{n}", "full") for n in range(5)]
    usd, session_budget, daily_budget = Decimal("0.10"), Decimal("0.35"), Decimal("1.25")

    async def reserve(number: int) -> str:
        try:
            await store.reserve(
                sessions[number % 5], usd, session_budget=session_budget, daily_budget=daily_budget
            )
        except (SessionBudgetExceededError, DailyBudgetExceededError) as error:
            return error.code
        return "reserved"

    outcomes = await asyncio.gather(*(reserve(number) for number in range(60)))
    assert outcomes.count("reserved") == 12
    spends = [await store.spend(session.id) for session in sessions]
    assert all(spend.session <= session_budget for spend in spends)
    assert spends[0].daily == Decimal("1.20")


async def test_what_was_spent_replaces_what_was_reserved(
    settings: MigrationSettings, store: PostgresStore
) -> None:
    session = await store.create_session("alice", "pilot")
    budgets = {"session_budget": Decimal(1), "daily_budget": Decimal(10)}
    settled = await store.reserve(session, Decimal("0.5"), **budgets)
    await store.settle(settled, Usage("gpt-4o", 10, 20, Decimal("0.2")))
    released = await store.reserve(session, Decimal("0.5"), **budgets)
    await store.release(released)
    await store.reserve(session, Decimal("0.3"), **budgets)
    assert (await store.spend(session.id)).session == Decimal("0.5")
    assert await store.activity() == (Decimal("0.5"), 1)
    login = url(settings.owner()).set(drivername="postgresql")
    with psycopg.connect(login.render_as_string(hide_password=False)) as owner:
        owner.execute("UPDATE agent_spend SET created_at = created_at - interval '25 hours'")
    spend = await store.spend(session.id)
    assert (spend.session, spend.daily) == (Decimal("0.5"), Decimal(0))


async def test_sessions_are_their_callers_own(store: PostgresStore) -> None:
    session = await store.create_session("alice", "internal")
    await store.set_last_response(session.id, "resp_1")
    found = await store.get_session(session.id, "alice")
    assert found is not None
    assert (found.tenant_group, found.last_response_id) == ("internal", "resp_1")
    assert await store.get_session(session.id, "bob") is None


async def test_one_voucher_an_idempotency_key_under_concurrency(store: PostgresStore) -> None:
    async def create(amount: int = 100) -> tuple[str, bool]:
        voucher, new = await store.create_voucher(
            msisdn="+250788123456",
            amount=amount,
            currency="RWF",
            issued_by="alice",
            idempotency=("key", str(amount)),
        )
        return voucher.policy_number, new

    results = await asyncio.gather(*(create() for _ in range(15)))
    assert len({number for number, _ in results}) == 1
    assert [new for _, new in results].count(True) == 1
    with pytest.raises(ApiError, match="Idempotency-Key"):
        await create(200)
    number = results[0][0]
    assert number.startswith("AI-")
    found = await store.find_voucher(number)
    assert found is not None
    assert (found.amount, found.status) == (100, "issued")
    customer = await store.find_customer("+250788123456")
    assert customer is not None
    assert customer.id == found.customer_id


async def test_a_voucher_is_closed_by_one_of_many(store: PostgresStore) -> None:
    voucher, _ = await store.create_voucher(
        msisdn="+250788123456", amount=1, currency="RWF", issued_by="alice", idempotency=None
    )

    async def close(status: str) -> str:
        try:
            closed = await store.close_voucher(voucher.policy_number, status, None)
        except ApiError as error:
            return error.code
        return closed.status if closed else "missing"

    outcomes = await asyncio.gather(*(close(status) for status in ["redeemed", "voided"] * 6))
    winner = next(outcome for outcome in outcomes if not outcome.startswith("voucher_"))
    assert sorted(set(outcomes)) == sorted({winner, f"voucher_{winner}"})
    assert outcomes.count(winner) == 1
    assert await store.close_voucher("AI-000000000000", "voided", None) is None


async def test_message_ids_are_remembered_for_an_hour(
    settings: MigrationSettings, store: PostgresStore
) -> None:
    event = Event("ai.whatsapp.message.processing", "whatsapp", {"text": "hello"})
    taken = await asyncio.gather(*(store.accept_message("wamid.1", event) for _ in range(10)))
    assert taken.count(True) == 1
    login = url(settings.owner()).set(drivername="postgresql")
    with psycopg.connect(login.render_as_string(hide_password=False), autocommit=True) as owner:
        owner.execute("UPDATE whatsapp_message_ids SET seen_at = now() - interval '59 minutes'")
        assert await store.accept_message("wamid.1", event) is False
        owner.execute("UPDATE whatsapp_message_ids SET seen_at = now() - interval '61 minutes'")
        assert await store.accept_message("wamid.1", event) is True
        owner.execute("UPDATE whatsapp_message_ids SET seen_at = now() - interval '61 minutes'")
        assert await store.accept_message("wamid.2", event) is True
        ids = owner.execute("SELECT message_id FROM whatsapp_message_ids").fetchall()
        events = owner.execute("SELECT count(*) FROM agent_events").fetchone()
    assert ids == [("wamid.2",)], "stale ids are cleaned up"
    assert events == (3,)
