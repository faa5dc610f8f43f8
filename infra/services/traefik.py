"""The edge (VM-5, K8S-2): TLS by DNS-01 in every region at any time, identity only from our own login.

`ROUTES`, `middlewares` and `TLS_OPTIONS` are the same on every runtime. On a host they are files, and routes
go to the service `agents`, which the file `active.yml` defines: runtime state, written by procedures with the
text that `active_route` gives, staged outside the watched directory and renamed into it. So is
`maintenance.yml`, with the text that `maintenance_route` gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import yaml

from infra.config.model import CloudflareDns, Role
from infra.services import agents, names
from infra.services.context import Context
from infra.services.model import (
    Directory,
    File,
    Health,
    HttpProbe,
    Network,
    Port,
    Probe,
    Resources,
    Scratch,
    Service,
    Slot,
    Volume,
)
from infra.services.platform import Routing

DYNAMIC_DIRECTORY = "traefik/dynamic"
ACTIVE_ROUTE = f"{DYNAMIC_DIRECTORY}/active.yml"
MAINTENANCE_ROUTE = f"{DYNAMIC_DIRECTORY}/maintenance.yml"
_DYNAMIC_PATH = "/etc/traefik/dynamic"
_STATIC_PATH = "/etc/traefik/traefik.yml"
_STORAGE = "/var/lib/traefik"
_DNS_SECRET_PATH = f"{names.SECRETS_PATH}/acme-dns"
_RESOLVER = "letsencrypt"
INGRESS_CLASS = "traefik"
IDLE_SECONDS = 60
"""How long the proxy keeps an idle connection to a service: less than the service does (75 s).

Where the service gives up first, a request may be sent on a connection that has just been closed.
"""
_LARGEST_BODY = 1024 * 1024
"""Bytes of a request that can be sent a second time; the service refuses larger ones."""

WEBHOOK_PATH = "/api/whatsapp/webhook"
IDENTITY_HEADERS = (
    "Remote-User",
    "X-Auth-Request-Access-Token",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Redirect",
    "X-Auth-Request-User",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-User",
)
"""Headers by which some proxies say who somebody is; ours says it by `Authorization` only."""


@dataclass(frozen=True)
class Route:
    """Requests to one of our names go to a service, through middlewares; the highest priority that fits wins.

    `path` is a prefix unless `exact`; with `header`, requests must have it.
    """

    name: str
    service: str
    priority: int
    middlewares: tuple[str, ...] = ()
    path: str = "/"
    exact: bool = False
    header: str = ""

    @property
    def rule(self) -> str:
        """Condition in the proxy's language; empty for all requests."""
        if self.header:
            return f"HeaderRegexp(`{self.header}`, `.`)"
        if self.path == "/":
            return ""
        return f"{'Path' if self.exact else 'PathPrefix'}(`{self.path}`)"


AUTH = "auth"
AUTH_PROGRAM = "auth-program"
COMMON_MIDDLEWARES = ("security-headers", "strip-identity")
"""Of every route, before its own."""
ROUTES = (
    Route("webhook", names.AGENTS, 400, ("webhook-rate",), WEBHOOK_PATH, exact=True),
    Route("login", names.OAUTH2_PROXY, 300, path="/oauth2/"),
    # Whoever sends credentials of his own is a program: it gets 401, never a login page.
    Route("api-credentials", names.AGENTS, 200, (AUTH_PROGRAM,), header="Authorization"),
    Route("agents", names.AGENTS, 100, (AUTH,)),
)
ROUTED = frozenset({route.service for route in ROUTES} | {names.MAINTENANCE})
"""Services that the proxy sends requests to."""
MAINTENANCE_RULE = "PathPrefix(`/`) && !Path(`/health`) && !PathPrefix(`/health/`)"
MAINTENANCE_PRIORITY = 1000


def server_url(slot: Slot) -> str:
    """Where the proxy reaches a slot."""
    return f"http://{agents.slot_name(slot)}:{names.AGENTS_PORT}"


def active_route(slot: Slot | str, fallback: Slot | None = None) -> str:
    """Text of `active.yml` that sends requests to a slot.

    Nobody checks a slot that is alone: with no other to go to, the proxy could only refuse what it may still
    answer, and does so by mistake when the machine is busy. With `fallback`, requests that the slot does not
    answer (502: no connection, or it broke) go to the other one at once, and all of them while the slot is
    not healthy.
    """
    slot = Slot(slot)
    if fallback is None:
        services: dict[str, Any] = {names.AGENTS: _balancer(slot)}
    else:
        services = {agents.slot_name(each): _checked(_balancer(each)) for each in (slot, fallback)}
        services[names.AGENTS] = {
            "failover": {
                "service": agents.slot_name(slot),
                "fallback": agents.slot_name(fallback),
                "errors": {"status": ["502"], "maxRequestBodyBytes": _LARGEST_BODY},
                "healthCheck": {},
            }
        }
    return _yaml({"http": {"services": services}})


def _balancer(slot: Slot) -> dict[str, Any]:
    return {
        "loadBalancer": {
            "servers": [{"url": server_url(slot)}],
            "passHostHeader": True,
            "responseForwarding": {"flushInterval": "10ms"},
        }
    }


def _checked(balancer: dict[str, Any]) -> dict[str, Any]:
    """The same, taken out where it is not ready; patient, since a busy machine answers late."""
    check = {"path": "/health/ready", "interval": "3s", "timeout": "2500ms", "followRedirects": False}
    return {"loadBalancer": {**balancer["loadBalancer"], "healthCheck": check}}


def maintenance_route(enabled: bool) -> str:
    """Text of `maintenance.yml`: before all other routes while `enabled`, except that health is answered.

    The file is never empty, so that one which was cut off can't pass for maintenance being off.
    """
    server = f"http://{names.MAINTENANCE}:{names.MAINTENANCE_PORT}"
    http: dict[str, Any] = {"services": {names.MAINTENANCE: {"loadBalancer": {"servers": [{"url": server}]}}}}
    if enabled:
        http["routers"] = {
            names.MAINTENANCE: {
                "entryPoints": ["websecure"],
                "rule": MAINTENANCE_RULE,
                "priority": MAINTENANCE_PRIORITY,
                "middlewares": list(COMMON_MIDDLEWARES),
                "service": names.MAINTENANCE,
                "tls": {},
            }
        }
    return _yaml({"http": http})


def service(context: Context) -> Service:
    """The proxy. It holds no Docker socket: on a host routes come from files."""
    proxy = Service(
        name=names.TRAEFIK,
        image=names.TRAEFIK,
        uid=names.USERS[names.TRAEFIK],
        networks=(Network.EDGE, Network.TELEMETRY),
        calls=tuple(sorted(ROUTED)),
        command=(f"--configFile={_STATIC_PATH}",),
        scratch=(Scratch("/tmp"),),  # noqa: S108 - a memory-backed directory of the container's own
        ports=(
            Port("web", 80, published=80),
            Port("websecure", 443, published=443),
            Port("internal", names.TRAEFIK_INTERNAL_PORT),
        ),
        health=Health(
            startup=Probe(HttpProbe("/ping", names.TRAEFIK_INTERNAL_PORT), 1, 3, 30),
            readiness=Probe(HttpProbe("/ping", names.TRAEFIK_INTERNAL_PORT), 10, 3, 3),
            liveness=Probe(HttpProbe("/ping", names.TRAEFIK_INTERNAL_PORT), 10, 3, 3),
        ),
        resources=Resources(cpus=1, memory_mib=256, pids=256, reserved_memory_mib=64),
        stop_seconds=agents.STOP_SECONDS,
        replicated=True,
    )
    if context.platform.routing is Routing.API:
        return replace(
            proxy,
            files=(File("traefik/traefik.yml", _STATIC_PATH, _yaml(_cluster_static(context))),),
            api_access=True,
        )
    return replace(
        proxy,
        edge_address=str(names.TRAEFIK_ADDRESS),
        environment=_dns_environment(context),
        files=(
            File("traefik/traefik.yml", _STATIC_PATH, _yaml(_host_static(context))),
            File("secrets/traefik/acme-dns", _DNS_SECRET_PATH, dns_secret(context), secret=True),
            *context.trust,
        ),
        directories=(Directory(DYNAMIC_DIRECTORY, _DYNAMIC_PATH),),
        volumes=(Volume("traefik", _STORAGE),),
    )


def dynamic_files(context: Context) -> tuple[File, ...]:
    """Files of the watched directory that the program owns; `active.yml` beside them is runtime state."""
    return (File(f"{DYNAMIC_DIRECTORY}/edge.yml", f"{_DYNAMIC_PATH}/edge.yml", _yaml(_dynamic(context))),)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=1000)


def _dns_environment(context: Context) -> dict[str, str]:
    dns = context.stack.dns
    if isinstance(dns, CloudflareDns):
        return {"CF_DNS_API_TOKEN_FILE": _DNS_SECRET_PATH}
    return {
        "RFC2136_NAMESERVER": f"{dns.server}:{dns.port}",
        "RFC2136_TSIG_KEY": f"{dns.challenge_key_name}.",
        "RFC2136_TSIG_ALGORITHM": f"{dns.algorithm}.",
        "RFC2136_TSIG_SECRET_FILE": _DNS_SECRET_PATH,
        "RFC2136_TTL": str(dns.ttl),
        "RFC2136_POLLING_INTERVAL": "1",
        # Seconds between two names of a certificate; lego waits a minute unless told otherwise.
        "RFC2136_SEQUENCE_INTERVAL": "1",
    }


def dns_secret(context: Context) -> str:
    """Reference to the secret that may write the challenge zone."""
    dns = context.stack.dns
    return dns.challenge_api_token if isinstance(dns, CloudflareDns) else dns.challenge_key_secret


def _entry_point(port: int, **settings: Any) -> dict[str, Any]:
    """An entry point that believes nobody's forwarded headers and drops aliases such as X_Forwarded_User."""
    http = {
        "aliasHeadersStrategy": "delete",
        # Paths that the proxy and a service could read differently.
        "encodedCharacters": {
            "allowEncodedSlash": False,
            "allowEncodedBackSlash": False,
            "allowEncodedNullCharacter": False,
            "allowEncodedSemicolon": False,
        },
        **settings.pop("http", {}),
    }
    return {
        "address": f":{port}",
        "forwardedHeaders": {"insecure": False, "trustedIPs": []},
        "http": http,
        **settings,
    }


def _cluster_static(context: Context) -> dict[str, Any]:
    """Routes come from the cluster's API, certificates from the Secrets that they name."""
    platform = context.platform
    namespaces = sorted({platform.namespace, *platform.namespaces.values()})
    return _static(
        {
            "kubernetesCRD": {
                "namespaces": list(namespaces),
                # Middlewares of the login's namespace, by the names that K8S-2 gives them.
                "allowCrossNamespace": True,
                "safeNaming": False,
            },
            "kubernetesIngress": {
                "namespaces": list(namespaces),
                "ingressClass": INGRESS_CLASS,
                "ingressEndpoint": {
                    "publishedService": f"{platform.namespace_of(names.TRAEFIK)}/{names.TRAEFIK}"
                },
            },
            "providersThrottleDuration": "100ms",
        },
        {},
    )


def _host_static(context: Context) -> dict[str, Any]:
    stack = context.stack
    provider = "cloudflare" if isinstance(stack.dns, CloudflareDns) else "rfc2136"
    acme: dict[str, Any] = {
        "email": stack.acme.email,
        "caServer": stack.acme.directory,
        "storage": f"{_STORAGE}/acme.json",
        "keyType": "EC256",
        "dnsChallenge": {
            "provider": provider,
            "resolvers": [f"{resolver}:53" for resolver in stack.resolvers],
        },
    }
    if provider == "rfc2136":
        # The resolver is asked until it knows the record; the name server itself is behind it.
        acme["dnsChallenge"]["propagation"] = {"disableANSChecks": True}
    if context.trust_path:
        acme["caCertificates"] = [context.trust_path]
    return _static(
        {
            "file": {"directory": _DYNAMIC_PATH, "watch": True},
            "providersThrottleDuration": "100ms",
        },
        {"certificatesResolvers": {_RESOLVER: {"acme": acme}}},
    )


def _static(providers: dict[str, Any], certificates: dict[str, Any]) -> dict[str, Any]:
    timeouts = {
        "respondingTimeouts": {"readTimeout": "60s", "writeTimeout": "0s", "idleTimeout": "180s"},
        "lifeCycle": {"graceTimeOut": f"{agents.DRAIN_SECONDS}s"},
    }
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "web": _entry_point(
                80,
                http={
                    "redirections": {"entryPoint": {"to": "websecure", "scheme": "https", "permanent": True}}
                },
            ),
            "websecure": _entry_point(
                443, asDefault=True, http2={"maxConcurrentStreams": 250}, transport=timeouts
            ),
            "internal": _entry_point(names.TRAEFIK_INTERNAL_PORT),
        },
        "serversTransport": {"forwardingTimeouts": {"idleConnTimeout": f"{IDLE_SECONDS}s"}},
        "providers": providers,
        **certificates,
        "ping": {"entryPoint": "internal"},
        "metrics": {
            "prometheus": {"entryPoint": "internal", "addRoutersLabels": True, "addServicesLabels": True}
        },
        "api": {"dashboard": False, "insecure": False},
        "log": {"level": "INFO", "format": "json"},
        "accessLog": {
            "format": "json",
            "fields": {
                # Both hold the query, and with it login codes and the webhook's verify token.
                "names": {"RequestPath": "drop", "RequestLine": "drop", "ClientUsername": "drop"},
                "headers": {"defaultMode": "drop", "names": {"User-Agent": "keep", "X-Request-Id": "keep"}},
            },
        },
    }


def _dynamic(context: Context) -> dict[str, Any]:
    stack = context.stack
    hosts = f"(Host(`{stack.domain}`) || Host(`{context.regional_name}`))"
    # Challenges of the public name share one record, which the regions must not write at the same moment:
    # names are validated one after the other, in this order.
    first, second = stack.domain, context.regional_name
    if context.role is Role.STANDBY:
        first, second = second, first
    tls = {
        "certResolver": _RESOLVER,
        "domains": [{"main": first, "sans": [second]}],
    }

    def router(route: Route) -> dict[str, Any]:
        return {
            "entryPoints": ["websecure"],
            "rule": f"{hosts} && {route.rule}" if route.rule else hosts,
            "priority": route.priority,
            "middlewares": [*COMMON_MIDDLEWARES, *route.middlewares],
            "service": route.service,
            "tls": tls,
        }

    return {
        "http": {
            "routers": {
                "internal-api": {
                    "entryPoints": ["internal"],
                    "rule": f"PathPrefix(`/api`) && ClientIP(`{names.EDGE_GATEWAY}`)",
                    "service": "api@internal",
                },
                **{route.name: router(route) for route in ROUTES},
            },
            "services": {
                names.OAUTH2_PROXY: {"loadBalancer": {"servers": [{"url": login_url(context)}]}},
            },
            "middlewares": middlewares(context),
        },
        # By this name it is also for names that no router has: they get no certificate.
        "tls": {"options": {"default": TLS_OPTIONS}},
    }


def login_url(context: Context) -> str:
    """Where the proxy reaches the login."""
    return f"http://{context.platform.address(names.OAUTH2_PROXY)}:{names.OAUTH2_PROXY_PORT}"


def middlewares(context: Context) -> dict[str, dict[str, Any]]:
    """All middlewares by name, each with its kind and settings, as files and the cluster's API have them."""

    def forward_auth(path: str) -> dict[str, Any]:
        return {
            "forwardAuth": {
                "address": f"{login_url(context)}{path}",
                "trustForwardHeader": False,
                "authResponseHeaders": ["Authorization"],
                # A session that is too large for one cookie is split into numbered ones.
                "addAuthCookiesToResponse": [COOKIE_NAME, *(f"{COOKIE_NAME}_{part}" for part in range(4))],
                "maxResponseBodySize": 65536,
            }
        }

    return {
        AUTH: forward_auth("/"),
        AUTH_PROGRAM: forward_auth("/oauth2/auth"),
        "strip-identity": {"headers": {"customRequestHeaders": dict.fromkeys(IDENTITY_HEADERS, "")}},
        "security-headers": {
            "headers": {
                "stsSeconds": 31_536_000,
                "stsIncludeSubdomains": True,
                "contentTypeNosniff": True,
                "frameDeny": True,
                "referrerPolicy": "strict-origin-when-cross-origin",
                "permissionsPolicy": "camera=(), geolocation=(), microphone=()",
                "customResponseHeaders": {"Server": "", "X-Powered-By": ""},
            }
        },
        "webhook-rate": {"rateLimit": {"average": 50, "period": "1s", "burst": 100}},
    }


TLS_OPTIONS: dict[str, Any] = {
    "minVersion": "VersionTLS12",
    "sniStrict": True,
    "alpnProtocols": ["h2", "http/1.1"],
    "curvePreferences": ["X25519MLKEM768", "X25519", "CurveP256"],
    "cipherSuites": [
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ],
}


COOKIE_NAME = "__Host-icupa"
