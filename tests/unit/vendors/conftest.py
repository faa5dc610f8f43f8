"""The double in memory, with the settings of the local stack and keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from infra.world import vendors
from reference.vendors.app import create_app, seed_store
from reference.vendors.control import create_control
from reference.vendors.faults import Faults
from reference.vendors.settings import Seed, Settings
from reference.vendors.store import Store

SEED = {
    "openai": {"api_keys": ["sk-proj-first-key-of-the-service"], "admin_keys": ["sk-admin-first-key"]},
    "supabase": {"service_role_keys": ["sb_secret_first"], "management_tokens": ["sbp_first"]},
    "vercel": {"tokens": ["vercel-first"]},
    "slack": {"tokens": ["xoxb-first"], "webhooks": {"T1/B1/secret": "#deployments"}},
    "pagerduty": {"routing_keys": ["routing-first"], "tokens": ["rest-first"]},
    "statuspage": {"tokens": ["statuspage-first"]},
}


@dataclass(frozen=True)
class Double:
    """The double: its vendors' port, its control port, its database."""

    api: TestClient
    control: TestClient
    database: Path


def settings(database: Path) -> Settings:
    document = vendors.settings()
    document["openai"]["token_seconds"] = 0
    return Settings.model_validate({**document, "database": database})


def start(database: Path) -> tuple[Double, Store, Faults]:
    configured = settings(database)
    store, faults = Store(database), Faults()
    seed_store(store, configured, Seed.model_validate(SEED))
    api, control = create_app(store, configured, faults), create_control(faults)
    return Double(TestClient(api), TestClient(control), database), store, faults


def seeded(store: Store, faults: Faults, configured: Settings, seed: object) -> None:
    """Make a double that other tests used what it is at its first start."""
    with store.transaction():
        store._connection.execute("DELETE FROM documents")
    seed_store(store, configured, Seed.model_validate(seed))
    faults.by_vendor.clear()
    faults.calls.clear()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Double, Store, Faults]]:
    """One for all tests: to make the applications takes longer than most of them."""
    double, store, faults = start(tmp_path_factory.mktemp("double") / "vendors.sqlite")
    yield double, store, faults
    store.close()


@pytest.fixture
def double(running: tuple[Double, Store, Faults]) -> Double:
    double, store, faults = running
    seeded(store, faults, settings(double.database), SEED)
    return double


@pytest.fixture
def api(double: Double) -> TestClient:
    return double.api
