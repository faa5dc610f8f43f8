"""The other parties' configuration, and that it fits what preparation mounts."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra import local
from infra.secrets.catalogue import Channel
from infra.secretstore.mounts import MOUNTS
from infra.world import acme, login, nameserver, registry, traces, vendors
from reference.vendors.settings import Seed, Settings


class Invented:
    """Source of mounted files: every secret is its own name, but for the key that must be one."""

    _pem = (
        rsa.generate_private_key(65537, 2048)
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )

    def secret(self, name: str) -> str:
        return self._pem if name == "login-signing-key" else name

    def public(self, name: str) -> str:
        return name


def mounted(party: local.Party, name: str) -> str:
    (mount,) = [item for item in MOUNTS if (item.consumer, item.name) == (party.name, name)]
    return mount.render(Invented())


def test_the_mounted_seed_is_what_the_vendors_double_reads() -> None:
    seed = Seed.model_validate_json(mounted(local.VENDORS, "seed.json"))
    assert seed.openai.api_keys == ("openai-api-key",)
    assert seed.slack.tokens == ("slack-token",)
    assert sorted(seed.slack.webhooks.values()) == sorted(Channel)
    assert set(seed.slack.webhooks.values()) <= set(vendors.SLACK_CHANNELS)
    assert seed.pagerduty.tokens == ("pagerduty-api-token",)


def test_the_vendors_settings_are_what_the_double_reads() -> None:
    settings = Settings.model_validate_json(vendors.files()[vendors.CONFIGURATION_PATH])
    assert settings.port == local.VENDORS.port
    assert settings.control_port == local.VENDORS_CONTROL_PORT
    assert settings.database.is_relative_to(vendors.STORAGE_PATH)


def test_every_client_and_user_of_the_login_has_its_secret_mounted() -> None:
    seed = json.loads(mounted(local.LOGIN, "seed.json"))
    settings = login.settings()
    assert {client["secret"] for client in settings["clients"]} == set(seed["client_secrets"])
    assert {user["name"] for user in settings["users"]} == set(seed["passwords"])
    assert seed["jwks"]["keys"][0]["alg"] == "RS256"
    assert seed["cookie_keys"]


def test_the_proxy_gets_people_back_at_the_public_name_and_at_each_region() -> None:
    hosts = [urlsplit(uri).hostname for uri in login.redirect_uris()]
    assert hosts == [local.DOMAIN, *(machine.host for machine in local.MACHINES)]


def test_tests_can_get_tokens_that_expire_and_tokens_for_somebody_else() -> None:
    settings = login.settings()
    clients = {client["client_id"]: client for client in settings["clients"]}
    assert clients[login.EXPIRING_CLIENT]["access_token_ttl"] == 1
    for client in (clients[login.SMOKE_CLIENT], clients[login.EXPIRING_CLIENT]):
        audiences = [settings["resources"][resource]["audience"] for resource in client["resources"]]
        assert audiences == [login.AUDIENCE, login.OTHER_AUDIENCE]
    assert "resources" not in clients[login.PROXY_CLIENT]


def test_tests_can_get_tokens_of_each_tenant_group() -> None:
    clients = {client["client_id"]: client for client in login.settings()["clients"]}
    assert set(login.TENANT_CLIENTS) == {"internal", "pilot", "full"}
    for group, names in login.TENANT_CLIENTS.items():
        assert {clients[name]["tenant_group"] for name in names} == {group}
    assert "tenant_group" not in clients[login.SMOKE_CLIENT]


def test_acme_validates_by_dns_through_the_resolver_and_keeps_its_accounts() -> None:
    configuration = acme.configuration()
    (provisioner,) = configuration["authority"]["provisioners"]
    assert (provisioner["type"], provisioner["challenges"]) == ("ACME", ["dns-01"])
    assert local.ACME_DIRECTORY.endswith(f"/acme/{provisioner['name']}/directory")
    assert configuration["db"]["dataSource"].startswith(f"{acme.STORAGE_PATH}/")
    assert acme.command()[-1] == f"{local.RESOLVER.address}:53"
    for role in ("root", "crt", "key"):
        path = configuration[role]
        assert mounted(local.ACME, path.removeprefix(f"{local.SECRETS_PATH}/"))


def test_certificates_may_be_made_short_lived() -> None:
    (provisioner,) = acme.configuration("10m")["authority"]["provisioners"]
    assert provisioner["claims"]["defaultTLSCertDuration"] == "10m"


def test_the_registry_wants_a_login_over_tls() -> None:
    configuration = yaml.safe_load(registry.configuration())
    assert configuration["storage"]["filesystem"]["rootdirectory"] == registry.STORAGE_PATH
    assert configuration["storage"]["delete"] == {"enabled": True}
    for path in (
        configuration["auth"]["htpasswd"]["path"],
        configuration["http"]["tls"]["certificate"],
        configuration["http"]["tls"]["key"],
    ):
        assert mounted(local.REGISTRY, path.removeprefix(f"{local.SECRETS_PATH}/"))


def test_the_trace_sink_writes_each_signal_as_it_came_for_who_has_the_token() -> None:
    configuration: dict[str, Any] = yaml.safe_load(traces.configuration())
    http = configuration["receivers"]["otlp"]["protocols"]["http"]
    authenticator = http["auth"]["authenticator"]
    assert authenticator in configuration["service"]["extensions"]
    token = configuration["extensions"][authenticator]["filename"]
    assert mounted(local.TRACES, token.removeprefix(f"{local.SECRETS_PATH}/")) == "otlp-token"
    for signal, pipeline in configuration["service"]["pipelines"].items():
        (exporter,) = pipeline["exporters"]
        assert "processors" not in pipeline
        assert configuration["exporters"][exporter]["path"] == traces.sink_file(signal)


def test_the_mounted_keys_are_those_of_the_name_server() -> None:
    keys = yaml.safe_load(mounted(local.NAMESERVER, "tsig.conf"))["key"]
    assert {key["id"] for key in keys} == {nameserver.FAILOVER_KEY, nameserver.ACME_KEY}
    assert {key["algorithm"] for key in keys} == {nameserver.TSIG_ALGORITHM}
