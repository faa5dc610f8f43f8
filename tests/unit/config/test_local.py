"""The stack file of `local` and the outside world that is made for it name the same things."""

from __future__ import annotations

from infra import local
from infra.config.load import load_file
from infra.config.model import DockerHosts, Rfc2136Dns
from infra.world import login, nameserver, vendors


def test_stack_file_and_outside_world_agree() -> None:
    stack = load_file("local")
    assert stack.domain == local.DOMAIN
    assert stack.acme.directory == local.ACME_DIRECTORY
    assert stack.registry.host == local.REGISTRY.host
    assert [str(resolver) for resolver in stack.resolvers] == [str(local.RESOLVER.address)]
    assert isinstance(stack.hosts, DockerHosts)
    assert {(machine.name, machine.region) for machine in stack.hosts.machines} == {
        (machine.name, machine.region) for machine in local.MACHINES
    }


def test_smoke_checks_have_a_client() -> None:
    configured = load_file("local").login
    clients = {client["client_id"]: client for client in login.settings()["clients"]}
    assert clients[configured.smoke_client_id]["grant_types"] == ["client_credentials"]
    assert configured.smoke_client_secret == "${secret:login-smoke-secret}"


def test_name_server_and_its_keys_are_the_same() -> None:
    dns = load_file("local").dns
    assert isinstance(dns, Rfc2136Dns)
    assert (dns.zone, dns.challenge_zone) == (local.ZONE, local.CHALLENGE_ZONE)
    assert (dns.server, dns.port) == (local.NAMESERVER.address, local.NAMESERVER.port)
    assert (dns.key_name, dns.challenge_key_name) == (nameserver.FAILOVER_KEY, nameserver.ACME_KEY)
    assert dns.algorithm == nameserver.TSIG_ALGORITHM
    assert dns.ttl == nameserver.TTL


def test_login_knows_the_client_and_issues_the_audience() -> None:
    configured = load_file("local").login
    assert configured.issuer == login.ISSUER
    assert configured.client_id == login.PROXY_CLIENT
    assert configured.audiences == (login.AUDIENCE,)


def test_vendors_have_what_the_variables_name() -> None:
    variables = load_file("local").variables
    assert variables.OPENAI_BASE_URL.startswith(f"{vendors.url('openai')}/")
    assert vendors.url("supabase") == variables.SUPABASE_URL
    models = {
        variables.OPENAI_DEFAULT_MODEL,
        variables.OPENAI_LOW_COST_MODEL,
        variables.OPENAI_FAILOVER_MODEL,
        variables.OPENAI_RESPONSES_MODEL,
    }
    assert models <= set(vendors.MODELS)
    stores = {
        variables.AGENTS_MENU_VECTOR_STORE_ID,
        variables.AGENTS_ALLERGENS_VECTOR_STORE_ID,
        variables.AGENTS_POLICIES_VECTOR_STORE_ID,
    }
    assert stores == set(vendors.VECTOR_STORES)


def test_traces_go_to_the_sink() -> None:
    endpoint = load_file("local").variables.OTLP_EXPORTER_ENDPOINT
    assert endpoint == f"https://{local.TRACES.host}:{local.TRACES.port}"
