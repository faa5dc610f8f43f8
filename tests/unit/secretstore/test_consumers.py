"""Who reads a secret is what services and stack files say; the catalogue adds to it and repeats nothing."""

from __future__ import annotations

import pytest

from infra.config.load import load_file, stack_names
from infra.secrets.catalogue import CATALOGUE
from infra.secretstore.consumers import consumers, readers, settings
from infra.services import names

STACKS = {name: load_file(name) for name in stack_names()}


@pytest.mark.parametrize(
    ("secret", "services"),
    [
        ("openai-api-key", {names.AGENTS}),
        ("otlp-token", {names.OTEL_COLLECTOR}),
        ("redis-password", {names.AGENTS, names.REDIS}),
        ("postgres-owner-password", {names.MIGRATE, names.POSTGRES}),
        ("metrics-token", {names.AGENTS, names.PROMETHEUS}),
        ("registry-password", set()),
    ],
)
def test_services_that_read_a_secret_are_found_on_every_host(secret: str, services: set[str]) -> None:
    found = readers(secret, STACKS["production"])
    assert set(found) == services
    assert set(found.values()) <= {("ams3", "fra1")}


def test_settings_of_the_controller_are_named() -> None:
    assert settings("registry-password", STACKS["local"]) == ["icupa:registry.password"]
    assert consumers("registry-password", STACKS["local"]) == [
        "controller (icupa:registry.password)",
        "docker",
    ]
    assert consumers("registry-password", None) == ["docker"]


@pytest.mark.parametrize("secret", CATALOGUE)
def test_every_secret_is_read_by_somebody_in_some_environment(secret: str) -> None:
    assert any(consumers(secret, stack) for stack in STACKS.values())


def test_the_catalogue_repeats_no_service_that_says_so_itself() -> None:
    services = {*names.USERS, names.MIGRATE}
    for secret in CATALOGUE.values():
        assert secret.local or not set(secret.consumers) & services, secret.name
