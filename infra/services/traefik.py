"""The edge (VM-5): TLS by DNS-01 in every region at any time, identity only from our own login.

Routes go to the service `agents`, which the file `active.yml` defines: runtime state, written by procedures
with the text that `active_route` gives, staged outside the watched directory and renamed into it. So is
`maintenance.yml`, with the text that `maintenance_route` gives.
"""

from __future__ import annotations

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

DYNAMIC_DIRECTORY = "traefik/dynamic"
ACTIVE_ROUTE = f"{DYNAMIC_DIRECTORY}/active.yml"
MAINTENANCE_ROUTE = f"{DYNAMIC_DIRECTORY}/maintenance.yml"
_DYNAMIC_PATH = "/etc/traefik/dynamic"
_STATIC_PATH = "/etc/traefik/traefik.yml"
_STORAGE = "/var/lib/traefik"
_DNS_SECRET_PATH = f"{names.SECRETS_PATH}/acme-dns"
_RESOLVER = "letsencrypt"
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


def server_url(slot: Slot) -> str:
    """Where the proxy reaches a slot."""
    return f"http://{agents.slot_name(slot)}:{names.AGENTS_PORT}"


def active_route(slot: Slot | str, fallback: Slot | None = None) -> str:
    """Text of `active.yml` that sends requests to a slot; the check takes it out while it drains.

    With `fallback`, requests that the slot does not answer (502: no connection, or it broke) go to the other
    one at once, and all of them while the slot is not healthy.
    """
    slot = Slot(slot)
    if fallback is None:
        services = {names.AGENTS: _balancer(slot)}
    else:
        services = {agents.slot_name(each): _balancer(each) for each in (slot, fallback)}
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
            "healthCheck": {
                "path": "/health/ready",
                "interval": "1s",
                "timeout": "900ms",
                "followRedirects": False,
            },
        }
    }


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
                "rule": "PathPrefix(`/`) && !Path(`/health`) && !PathPrefix(`/health/`)",
                "priority": 1000,
                "middlewares": ["security-headers", "strip-identity"],
                "service": names.MAINTENANCE,
                "tls": {},
            }
        }
    return _yaml({"http": http})


def service(context: Context) -> Service:
    """The proxy. It holds no Docker socket: routes come from files."""
    return Service(
        name=names.TRAEFIK,
        image=names.TRAEFIK,
        uid=names.USERS[names.TRAEFIK],
        networks=(Network.EDGE, Network.TELEMETRY),
        edge_address=str(names.TRAEFIK_ADDRESS),
        command=(f"--configFile={_STATIC_PATH}",),
        environment=_dns_environment(context),
        files=(
            File("traefik/traefik.yml", _STATIC_PATH, _yaml(_static(context))),
            File("secrets/traefik/acme-dns", _DNS_SECRET_PATH, _dns_secret(context), secret=True),
            *context.trust,
        ),
        directories=(Directory(DYNAMIC_DIRECTORY, _DYNAMIC_PATH),),
        volumes=(Volume("traefik", _STORAGE),),
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


def _dns_secret(context: Context) -> str:
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


def _static(context: Context) -> dict[str, Any]:
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
        "providers": {
            "file": {"directory": _DYNAMIC_PATH, "watch": True},
            "providersThrottleDuration": "100ms",
        },
        "certificatesResolvers": {_RESOLVER: {"acme": acme}},
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
    oauth2_proxy = f"http://{names.OAUTH2_PROXY}:{names.OAUTH2_PROXY_PORT}"
    # Challenges of the public name share one record, which the regions must not write at the same moment:
    # names are validated one after the other, in this order.
    first, second = stack.domain, context.regional_name
    if context.role is Role.STANDBY:
        first, second = second, first
    tls = {
        "certResolver": _RESOLVER,
        "domains": [{"main": first, "sans": [second]}],
    }

    def router(rule: str, priority: int, to: str, *middlewares: str) -> dict[str, Any]:
        return {
            "entryPoints": ["websecure"],
            "rule": f"{hosts} && {rule}" if rule else hosts,
            "priority": priority,
            "middlewares": ["security-headers", "strip-identity", *middlewares],
            "service": to,
            "tls": tls,
        }

    def forward_auth(path: str) -> dict[str, Any]:
        return {
            "forwardAuth": {
                "address": f"{oauth2_proxy}{path}",
                "trustForwardHeader": False,
                "authResponseHeaders": ["Authorization"],
                # A session that is too large for one cookie is split into numbered ones.
                "addAuthCookiesToResponse": [COOKIE_NAME, *(f"{COOKIE_NAME}_{part}" for part in range(4))],
                "maxResponseBodySize": 65536,
            }
        }

    return {
        "http": {
            "routers": {
                "internal-api": {
                    "entryPoints": ["internal"],
                    "rule": f"PathPrefix(`/api`) && ClientIP(`{names.EDGE_GATEWAY}`)",
                    "service": "api@internal",
                },
                "webhook": router(f"Path(`{WEBHOOK_PATH}`)", 400, names.AGENTS, "webhook-rate"),
                "login": router("PathPrefix(`/oauth2/`)", 300, names.OAUTH2_PROXY),
                # Whoever sends credentials of his own is a program: it gets 401, never a login page.
                "api-credentials": router(
                    "HeaderRegexp(`Authorization`, `.`)", 200, names.AGENTS, "auth-program"
                ),
                "agents": router("", 100, names.AGENTS, "auth"),
            },
            "services": {names.OAUTH2_PROXY: {"loadBalancer": {"servers": [{"url": oauth2_proxy}]}}},
            "middlewares": {
                "auth": forward_auth("/"),
                "auth-program": forward_auth("/oauth2/auth"),
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
            },
        },
        "tls": {
            "options": {
                # By this name it is also for names that no router has: they get no certificate.
                "default": {
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
            }
        },
    }


COOKIE_NAME = "__Host-icupa"
