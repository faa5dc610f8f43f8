from __future__ import annotations

import base64
import re
from collections import Counter

import pytest

from infra import local
from infra.secrets import generators, references
from infra.secrets.catalogue import CATALOGUE, Channel, Driver, Owner, Period, slack_webhook


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_secret_has_a_name_a_purpose_and_a_fresh_value(name: str) -> None:
    secret = CATALOGUE[name]
    assert references.NAME.fullmatch(name)
    assert secret.what

    first, second = secret.generate(), secret.generate()

    assert first != second
    assert len(first) >= 20
    for derive in secret.public.values():
        assert first not in derive(first)
        assert derive(first) == derive(first) != derive(second)


@pytest.mark.parametrize("name", ["tsig-acme", "tsig-failover"])
def test_tsig_keys_are_32_octets_in_base64(name: str) -> None:
    assert len(base64.b64decode(CATALOGUE[name].generate(), validate=True)) == 32


def test_the_cookie_secret_is_32_octets_in_base64url() -> None:
    for _ in range(20):
        assert len(base64.urlsafe_b64decode(CATALOGUE["oauth2-proxy-cookie-secret"].generate())) == 32


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("openai-api-key", "sk-"),
        ("openai-admin-key", "sk-admin-"),
        ("supabase-management-token", "sbp_"),
        ("slack-token", "xoxb-"),
    ],
)
def test_vendors_keys_have_the_vendors_shape(name: str, prefix: str) -> None:
    assert CATALOGUE[name].generate().startswith(prefix)


def test_every_machine_has_a_host_key_with_a_public_part() -> None:
    for machine in local.MACHINES:
        secret = CATALOGUE[f"ssh-host-key-{machine.name}"]
        (derive,) = secret.public.values()
        assert derive(secret.generate()).startswith("ssh-ed25519 AAAA")


def test_local_secrets_are_used_by_the_outside_world_only() -> None:
    world = {place.name for place in (*local.PARTIES, *local.MACHINES)} | {"tests", "controller"}
    secrets = [secret for secret in CATALOGUE.values() if secret.local]
    assert secrets
    for secret in secrets:
        assert set(secret.consumers) <= world, secret.name


def test_a_public_key_follows_from_the_private_one() -> None:
    assert generators.public_key_pem(generators.ec_key()).startswith("-----BEGIN PUBLIC KEY-----")


def test_the_recipient_of_backups_follows_from_the_identity_and_from_nothing_else() -> None:
    assert generators.age_recipient(generators.age_identity()).startswith("age1")
    with pytest.raises(ValueError, match="not an age identity"):
        generators.age_recipient("AGE-SECRET-KEY-1CANARY")


@pytest.mark.parametrize("channel", Channel)
def test_webhooks_lead_to_the_vendors_double_on_local(channel: Channel) -> None:
    url = CATALOGUE[slack_webhook(channel)].generate()
    base = rf"https://{re.escape(local.VENDORS.host)}/slack/services"
    assert re.fullmatch(rf"{base}/T[A-Z0-9]{{10}}/B[A-Z0-9]{{10}}/[A-Za-z0-9]{{24}}", url)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_secret_says_how_it_is_replaced(name: str) -> None:
    rotation = CATALOGUE[name].rotation
    assert rotation.revoked
    assert rotation.overlap.how
    assert bool(rotation.reason) == (rotation.period.limit is None)
    assert (rotation.driver is Driver.WORLD) == CATALOGUE[name].local


def test_every_secret_is_counted_once() -> None:
    """Whoever adds a secret counts it here, so that its period is a decision."""
    periods = Counter(secret.rotation.period for secret in CATALOGUE.values())
    assert periods == {Period.QUARTERLY: 12, Period.YEARLY: 16, Period.ON_COMPROMISE: 2, Period.NONE: 17}
    assert sum(periods.values()) == len(CATALOGUE) == 47
    assert {secret.rotation.driver for secret in CATALOGUE.values()} == set(Driver)
    assert {secret.rotation.owner for secret in CATALOGUE.values()} == set(Owner)


@pytest.mark.parametrize(
    ("name", "period"),
    [
        ("openai-api-key", Period.QUARTERLY),
        ("supabase-service-role-key", Period.QUARTERLY),
        ("oauth-client-secret", Period.YEARLY),
        ("otlp-token", Period.NONE),
    ],
)
def test_periods_are_the_runbooks_where_it_names_one(name: str, period: Period) -> None:
    assert CATALOGUE[name].rotation.period is period
