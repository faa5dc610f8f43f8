"""Definitions of the services: what they promise each other and the outside, independent of any runtime."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from infra import paths
from infra.config.load import load_file
from infra.config.model import Role, Switches, Variables
from infra.record import Switch
from infra.registry import SERVICES, release_source
from infra.secrets.catalogue import CATALOGUE
from infra.secrets.references import find
from infra.services import agents, names, oauth2_proxy, otel_collector, traefik
from infra.services.context import Context
from infra.services.model import Condition, Network, Service, Slot, Topology
from infra.services.topology import topology
from reference.agents_service.server import KEEP_ALIVE_SECONDS

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
EVERYBODY = "0.0.0.0"  # noqa: S104 - compared, not bound
STACKS = ("local", "staging", "production")


def context_of(stack: str, role: Role = Role.PRIMARY) -> Context:
    loaded = load_file(stack)
    machine = next(machine for machine in loaded.hosts.machines if machine.role is role)
    trust = (CERTIFICATE,) if loaded.trust else ()
    return Context(stack, loaded, machine.region, role, trust)


@pytest.fixture(params=STACKS)
def services(request: pytest.FixtureRequest) -> Topology:
    return topology(context_of(request.param))


@pytest.fixture
def local() -> Context:
    return context_of("local")


def content(service: Service, source: str) -> str:
    (found,) = (file.content for file in service.files if file.source == source)
    return found


def dynamic(context: Context) -> dict[str, Any]:
    (file,) = traefik.dynamic_files(context)
    loaded: dict[str, Any] = yaml.safe_load(file.content)
    return loaded


def static(context: Context) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(content(traefik.service(context), "traefik/traefik.yml"))
    return loaded


def test_the_proxy_gives_up_idle_connections_before_the_service_does(local: Context) -> None:
    idle = static(local)["serversTransport"]["forwardingTimeouts"]["idleConnTimeout"]
    assert idle == f"{traefik.IDLE_SECONDS}s"
    assert traefik.IDLE_SECONDS + 10 < KEEP_ALIVE_SECONDS


def test_services_ports_and_users_are_those_of_the_contract(services: Topology) -> None:
    contract = {
        "agents": ({8080}, 10001),
        "traefik": ({80, 443, 8082}, 10002),
        "oauth2-proxy": ({4180, 44180}, 10003),
        "otel-collector": ({4317, 4318, 13133, 8888}, 10004),
        "postgres": ({5432}, 10005),
        "redis": ({6379}, 10006),
        "prometheus": ({9090}, 10007),
        "maintenance": ({8090}, 10008),
    }
    found = {
        service.name: ({port.number for port in service.ports}, service.uid)
        for service in services.services
        if not service.job
    }
    assert found == contract


def test_images_run_as_the_users_and_expose_the_ports_of_the_services(local: Context) -> None:
    sources = {source.name: source for source in (*SERVICES, release_source("0" * 40))}
    services = [service for service in topology(local).services if not service.job]
    assert {service.image for service in services} == set(sources)
    for service in services:
        lines = (paths.REPOSITORY / sources[service.image].dockerfile_path).read_text().splitlines()
        words = [line.split() for line in lines]
        assert ["USER", f"{service.uid}:{service.uid}"] in words, service.name
        exposed = {word.partition("/")[0] for line in words if line[:1] == ["EXPOSE"] for word in line[1:]}
        assert exposed == {str(port.number) for port in service.ports}, service.name


def test_only_the_edge_is_published_to_everybody(services: Topology) -> None:
    published = {
        (service.name, port.number, port.host_address)
        for service in services.services
        for port in service.ports
        if port.published is not None
    }
    assert published == {
        ("traefik", 80, EVERYBODY),
        ("traefik", 443, EVERYBODY),
        ("prometheus", 9090, "127.0.0.1"),
    }


def test_databases_have_no_way_out(services: Topology) -> None:
    for name in (names.POSTGRES, names.REDIS, names.MIGRATE):
        assert services.service(name).networks == (Network.DATA,)


def test_every_reference_is_in_the_catalogue(services: Topology) -> None:
    texts = [file.content for service in services.services for file in service.files]
    texts += [
        value
        for service in services.services
        for file in service.environment_files
        for value in file.variables.values()
    ]
    texts += services.project_file.variables.values()
    referred = {name for text in texts for name in find(text)}
    assert referred >= {"openai-api-key", "otlp-token", "postgres-owner-password", "metrics-token"}
    assert referred <= set(CATALOGUE)


def test_migrations_end_before_the_service_starts(local: Context) -> None:
    wanted = {item.service: item.condition for item in agents.service(local).dependencies}
    assert wanted[names.MIGRATE] is Condition.COMPLETED
    assert wanted[names.POSTGRES] is Condition.READY
    assert agents.migrations(local).job
    assert agents.migrations(local).slots == agents.service(local).slots


def test_only_migrations_know_the_owner(services: Topology) -> None:
    knowing = {
        service.name
        for service in services.services
        for file in service.files
        if "postgres-owner-password" in find(file.content)
    }
    assert knowing == {names.MIGRATE, names.POSTGRES}
    environment = services.service(names.AGENTS).environment_files[0].variables
    assert not any("owner" in value for value in environment.values())


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("role", list(Role))
def test_service_gets_every_variable_of_its_region(stack: str, role: Role) -> None:
    context = context_of(stack, role)
    file = agents.environment(context)
    of_the_collector = {"OTLP_EXPORTER_ENDPOINT", "OTLP_EXPORTER_HEADERS"}
    optional = {"OTEL_EXPORTER_OTLP_HEADERS"}
    wanted = set(Variables.model_fields) - of_the_collector - optional
    assert wanted <= set(file.variables)
    assert file.variables["SUPABASE_URL"] == context.variables.SUPABASE_URL
    assert file.variables["AGENT_SESSION_BUDGET_USD"] == "0.75"
    assert file.runtime == tuple(Switches.model_fields) == tuple(Switch)
    assert not set(file.runtime) & set(file.variables)
    assert set(topology(context).project_file.variables) == of_the_collector


def test_service_accepts_tokens_for_itself_and_for_browsers(local: Context) -> None:
    audiences = agents.environment(local).variables["OIDC_AUDIENCE"].split(",")
    assert audiences == [local.stack.login.client_id, *local.stack.login.audiences]


def test_nobody_refuses_requests_for_a_slot_that_is_alone() -> None:
    route = yaml.safe_load(traefik.active_route(Slot.BLUE))
    assert "healthCheck" not in route["http"]["services"]["agents"]["loadBalancer"]


def test_a_stop_is_longer_than_the_drain(local: Context) -> None:
    variables = agents.environment(local).variables
    assert int(variables["DRAIN_GRACE_SECONDS"]) > 0
    assert agents.service(local).stop_seconds >= int(variables["DRAIN_SECONDS"]) + 10


@pytest.mark.parametrize("slot", ["blue", "green"])
def test_route_names_one_slot(slot: str) -> None:
    route = yaml.safe_load(traefik.active_route(slot))
    services = route["http"]["services"]
    assert list(services) == ["agents"]
    assert services["agents"]["loadBalancer"]["servers"] == [{"url": f"http://agents-{slot}:8080"}]


def test_a_route_with_a_fallback_uses_it_for_requests_that_found_no_server() -> None:
    services = yaml.safe_load(traefik.active_route(Slot.GREEN, Slot.BLUE))["http"]["services"]
    failover = services["agents"]["failover"]
    assert (failover["service"], failover["fallback"]) == ("agents-green", "agents-blue")
    assert failover["errors"]["status"] == ["502"]
    for slot in Slot:
        balancer = services[f"agents-{slot}"]["loadBalancer"]
        assert balancer["servers"] == [{"url": f"http://agents-{slot}:8080"}]
        check = balancer["healthCheck"]
        assert check["path"] == "/health/ready"
        assert (
            2000
            <= float(check["timeout"].removesuffix("ms"))
            < 1000 * float(check["interval"].removesuffix("s"))
        )


def test_route_of_an_unknown_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="red"):
        traefik.active_route("red")


@pytest.mark.parametrize("stack", STACKS)
def test_no_entry_point_believes_or_passes_forged_headers(stack: str) -> None:
    entry_points = static(context_of(stack))["entryPoints"]
    assert set(entry_points) == {"web", "websecure", "internal"}
    for entry_point in entry_points.values():
        assert entry_point["forwardedHeaders"] == {"insecure": False, "trustedIPs": []}
        assert entry_point["http"]["aliasHeadersStrategy"] == "delete"
        assert not any(entry_point["http"]["encodedCharacters"].values())


def test_plain_http_is_redirected_for_good(local: Context) -> None:
    redirection = static(local)["entryPoints"]["web"]["http"]["redirections"]["entryPoint"]
    assert redirection == {"to": "websecure", "scheme": "https", "permanent": True}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("role", list(Role))
def test_certificate_has_the_public_and_the_regional_name_in_every_region(stack: str, role: Role) -> None:
    context = context_of(stack, role)
    for name, router in dynamic(context)["http"]["routers"].items():
        if name == "internal-api":
            continue
        (wanted,) = router["tls"]["domains"]
        ordered = [context.stack.domain, f"{context.region}.{context.stack.domain}"]
        assert [wanted["main"], *wanted["sans"]] == (ordered if role is Role.PRIMARY else ordered[::-1])
        assert f"Host(`{context.stack.domain}`)" in router["rule"]
        assert f"Host(`{context.region}.{context.stack.domain}`)" in router["rule"]
        assert router["entryPoints"] == ["websecure"]


def test_only_the_webhook_and_the_login_need_no_session(local: Context) -> None:
    routers = dynamic(local)["http"]["routers"]
    open_routers = {
        name: (router["rule"], router["service"])
        for name, router in routers.items()
        if not {"auth", "auth-program"} & set(router.get("middlewares", []))
    }
    assert set(open_routers) == {"webhook", "login", "internal-api"}
    assert open_routers["webhook"][0].endswith("&& Path(`/api/whatsapp/webhook`)")
    assert "webhook-rate" in routers["webhook"]["middlewares"]
    assert open_routers["login"] == (routers["login"]["rule"], names.OAUTH2_PROXY)
    assert open_routers["login"][0].endswith("&& PathPrefix(`/oauth2/`)")
    assert routers["internal-api"]["entryPoints"] == ["internal"]
    assert f"ClientIP(`{names.EDGE_GATEWAY}`)" in routers["internal-api"]["rule"]


def test_identity_comes_from_the_login_only(local: Context) -> None:
    configuration = dynamic(local)["http"]
    stripped = configuration["middlewares"]["strip-identity"]["headers"]["customRequestHeaders"]
    assert set(stripped.values()) == {""}
    assert {"X-Forwarded-User", "X-Forwarded-Email", "X-Auth-Request-User", "X-Forwarded-Groups"} <= set(
        stripped
    )
    for name, router in configuration["routers"].items():
        if name != "internal-api":
            assert router["middlewares"][:2] == ["security-headers", "strip-identity"]
    for name in ("auth", "auth-program"):
        forward = configuration["middlewares"][name]["forwardAuth"]
        assert forward["authResponseHeaders"] == ["Authorization"]
        assert forward["trustForwardHeader"] is False


def test_programs_are_never_sent_to_log_in(local: Context) -> None:
    configuration = dynamic(local)["http"]
    routers = configuration["routers"]
    credentials = routers["api-credentials"]
    assert "HeaderRegexp(`Authorization`" in credentials["rule"]
    assert credentials["priority"] > routers["agents"]["priority"]
    address = configuration["middlewares"]["auth-program"]["forwardAuth"]["address"]
    assert address.endswith("/oauth2/auth")
    settings = tomllib.loads(oauth2_proxy.configuration(local))
    for path in ("/api/agents/sessions", "/api", "/api?x=1", "/health", "/metrics"):
        assert any(re.search(pattern, path) for pattern in settings["api_routes"]), path
    for path in ("/", "/apis", "/x/api/y", "/healthy"):
        assert not any(re.search(pattern, path) for pattern in settings["api_routes"]), path


def test_nothing_is_retried(local: Context) -> None:
    assert not any("retry" in middleware for middleware in dynamic(local)["http"]["middlewares"].values())


def test_tls_is_modern(local: Context) -> None:
    options = dynamic(local)["tls"]["options"]["default"]
    assert options["minVersion"] == "VersionTLS12"
    assert options["sniStrict"] is True
    assert all(
        "ECDHE" in suite and ("GCM" in suite or "POLY1305" in suite) for suite in options["cipherSuites"]
    )
    headers = dynamic(local)["http"]["middlewares"]["security-headers"]["headers"]
    assert headers["stsSeconds"] >= 31_536_000


def test_access_log_has_neither_credentials_nor_queries(local: Context) -> None:
    fields = static(local)["accessLog"]["fields"]
    assert fields["headers"]["defaultMode"] == "drop"
    assert "Authorization" not in fields["headers"]["names"]
    assert fields["names"]["RequestPath"] == fields["names"]["RequestLine"] == "drop"


def test_challenge_goes_to_the_provider_of_the_stack(local: Context) -> None:
    resolver = static(local)["certificatesResolvers"]["letsencrypt"]["acme"]
    assert resolver["dnsChallenge"]["provider"] == "rfc2136"
    assert resolver["dnsChallenge"]["resolvers"] == ["10.80.0.11:53"]
    assert resolver["caCertificates"] == [names.TRUST_PATH]
    environment = traefik.service(local).environment
    assert environment["RFC2136_NAMESERVER"] == "10.80.0.10:53"
    assert environment["RFC2136_TSIG_KEY"] == "acme."
    assert int(environment["RFC2136_SEQUENCE_INTERVAL"]) <= 1
    assert content(traefik.service(local), "secrets/traefik/acme-dns") == "${secret:tsig-acme}"
    assert "LEGO_DISABLE_CNAME_SUPPORT" not in environment

    production = context_of("production")
    acme = static(production)["certificatesResolvers"]["letsencrypt"]["acme"]
    assert acme["dnsChallenge"]["provider"] == "cloudflare"
    assert "caCertificates" not in acme
    challenge_token = content(traefik.service(production), "secrets/traefik/acme-dns")
    assert challenge_token == "${secret:cloudflare-challenge-token}"


def test_login_believes_the_proxy_only(local: Context) -> None:
    settings = tomllib.loads(oauth2_proxy.configuration(local))
    assert settings["reverse_proxy"] is True
    assert settings["trusted_proxy_ips"] == [f"{traefik.service(local).edge_address}/32"]
    assert settings["skip_jwt_bearer_tokens"] is True
    assert settings["cookie_name"].startswith("__Host-")
    assert settings["cookie_secure"] is settings["cookie_httponly"] is True
    assert settings["cookie_samesite"] == "lax"
    assert "skip_auth_routes" not in settings
    assert not any("secret" in name for name in settings)
    (file,) = oauth2_proxy.service(local).environment_files
    assert file.variables["OAUTH2_PROXY_COOKIE_SECRET"] == "${secret:oauth2-proxy-cookie-secret}"


@pytest.mark.parametrize("stack", STACKS)
def test_collector_loses_nothing(stack: str) -> None:
    configuration = otel_collector.configuration(context_of(stack))
    exporter = configuration["exporters"]["otlp_http"]
    assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
    assert exporter["sending_queue"]["storage"] == "file_storage"
    assert exporter["sending_queue"]["block_on_overflow"] is True
    assert "batch" in exporter["sending_queue"]
    assert "batch" not in configuration["processors"]
    for name, pipeline in configuration["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter", name
        assert pipeline["processors"][-1] == "redaction", name


LEAKS = (
    "sk-proj-abcdefgh12345678",
    "Authorization: Bearer abcdefgh12345678",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
    "password=hunter22",
    '"api_key": "abcdefgh"',
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "378282246310005",
    "5555 5555 5555 4444",
    "2223003122003222",
    "6304000000000000000",
)
HARMLESS = (
    "1763621234567890123",  # a time stamp in nanoseconds
    "1763621234567",
    "+250788000000",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "gpt-4.1-mini",
    "resp_68123",
    "tokens=512",
)


@pytest.mark.parametrize("text", LEAKS)
def test_secret_and_card_number_are_recognised(text: str) -> None:
    assert any(re.search(pattern, text) for pattern in otel_collector.REDACTED_VALUES)


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_value_stays(text: str) -> None:
    assert not any(re.search(pattern, text) for pattern in otel_collector.REDACTED_VALUES)


@pytest.mark.parametrize("stack", STACKS)
def test_trust_is_given_to_whoever_calls_out(stack: str) -> None:
    services = topology(context_of(stack))
    trusting = {
        service.name
        for service in services.services
        if any(f.path == names.TRUST_PATH for f in service.files)
    }
    calling = {names.AGENTS, names.TRAEFIK, names.OAUTH2_PROXY, names.OTEL_COLLECTOR}
    assert trusting == (calling if stack == "local" else set())
    variables = services.service(names.AGENTS).environment_files[0].variables
    assert ("SSL_CERT_FILE" in variables) == (stack == "local")


def test_unknown_service_error_names_the_known_ones(local: Context) -> None:
    with pytest.raises(KeyError, match="traefik, oauth2-proxy, agents"):
        topology(local).service("nginx")
