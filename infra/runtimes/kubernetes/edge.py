"""Names, certificates and routes of a cluster, from the same settings as a host's proxy (K8S-2)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from infra.config.model import CloudflareDns, NginxIngress
from infra.runtimes.kubernetes.model import (
    LOGIN_NAMESPACE,
    NAMESPACE,
    Cluster,
    Manifest,
    labels,
    manifest,
    secret,
)
from infra.services import names, oauth2_proxy, traefik
from infra.services.context import Context
from infra.services.traefik import Route

CERTIFICATE_SECRET = "agents-tls"  # noqa: S105 - a name
ISSUER = "letsencrypt"
_ACCOUNT_SECRET = "letsencrypt-account"  # noqa: S105 - a name
_DNS_KEY = "acme-dns"
_CERT_MANAGER = "cert-manager.io/v1"
_TRAEFIK = "traefik.io/v1alpha1"
_INGRESS = "networking.k8s.io/v1"
_RBAC = "rbac.authorization.k8s.io/v1"
_READ = ["get", "list", "watch"]
_TRAEFIK_KINDS = [
    "ingressroutes",
    "ingressroutetcps",
    "ingressrouteudps",
    "middlewares",
    "middlewaretcps",
    "serverstransports",
    "serverstransporttcps",
    "tlsoptions",
    "tlsstores",
    "traefikservices",
]
_TSIG_ALGORITHMS = {"hmac-sha256": "HMACSHA256", "hmac-sha512": "HMACSHA512"}
_MIDDLEWARES = {traefik.AUTH: "forward", traefik.AUTH_PROGRAM: "forward-program"}
"""Names that middlewares have in a cluster, where theirs is another than on a host."""
_PORTS = {
    names.AGENTS: names.AGENTS_PORT,
    names.OAUTH2_PROXY: names.OAUTH2_PROXY_PORT,
    names.MAINTENANCE: names.MAINTENANCE_PORT,
}


def edge(context: Context, cluster: Cluster) -> list[Manifest]:
    """Certificate and routes, with our own proxy or the cluster's."""
    ingress = cluster.settings.ingress
    if isinstance(ingress, NginxIngress):
        return [*_certificate(context, cluster), *_nginx(context, cluster)]
    return [*_certificate(context, cluster), *_traefik(context, cluster)]


def _hosts(context: Context) -> list[str]:
    return [context.stack.domain, context.regional_name]


def _certificate(context: Context, cluster: Cluster) -> list[Manifest]:
    """By DNS-01 through the delegated challenge zone, so that both regions hold one at any time."""
    acme, dns = context.stack.acme, context.stack.dns
    credentials = secret(
        "cert-manager-dns",
        NAMESPACE,
        {_DNS_KEY: traefik.dns_secret(context)},
        cluster.state.secrets,
        names.TRAEFIK,
    )
    reference = {"name": credentials["metadata"]["name"], "key": _DNS_KEY}
    if isinstance(dns, CloudflareDns):
        solver: dict[str, Any] = {"cloudflare": {"apiTokenSecretRef": reference}}
    else:
        solver = {
            "rfc2136": {
                "nameserver": f"{dns.server}:{dns.port}",
                "tsigKeyName": dns.challenge_key_name,
                "tsigAlgorithm": _TSIG_ALGORITHMS[dns.algorithm],
                "tsigSecretSecretRef": reference,
            }
        }
    account: dict[str, Any] = {
        "server": acme.directory,
        "email": acme.email,
        "privateKeySecretRef": {"name": _ACCOUNT_SECRET},
        "solvers": [{"dns01": {"cnameStrategy": "Follow", **solver}}],
    }
    if context.trust:
        (bundle,) = context.trust
        account["caBundle"] = base64.b64encode(bundle.content.encode()).decode()
    certificate = {
        "secretName": CERTIFICATE_SECRET,
        "dnsNames": _hosts(context),
        "issuerRef": {"name": ISSUER, "kind": "Issuer", "group": "cert-manager.io"},
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
    }
    return [
        credentials,
        manifest(_CERT_MANAGER, "Issuer", ISSUER, NAMESPACE, spec={"acme": account}),
        manifest(_CERT_MANAGER, "Certificate", names.AGENTS, NAMESPACE, spec=certificate),
    ]


@dataclass(frozen=True)
class _Backend:
    """Paths, each with whether it is exact, that go to a service."""

    service: str
    paths: tuple[tuple[str, bool], ...]


def _ingress(
    context: Context, cluster: Cluster, name: str, backend: _Backend, annotations: dict[str, str]
) -> Manifest:
    """An Ingress, of the class that the settings say; it brings the certificate where that one is."""
    service, ingress = backend.service, cluster.settings.ingress
    target = {"service": {"name": service, "port": {"number": _PORTS[service]}}}
    paths = [
        {"path": path, "pathType": "Exact" if exact else "Prefix", "backend": target}
        for path, exact in backend.paths
    ]
    spec: dict[str, Any] = {
        "ingressClassName": ingress.class_name
        if isinstance(ingress, NginxIngress)
        else traefik.INGRESS_CLASS,
        "rules": [{"host": host, "http": {"paths": paths}} for host in _hosts(context)],
    }
    namespace = cluster.platform.namespace_of(service)
    if namespace == NAMESPACE:
        spec["tls"] = [{"hosts": _hosts(context), "secretName": CERTIFICATE_SECRET}]
    own = labels(service)
    return manifest(_INGRESS, "Ingress", name, namespace, labels=own, annotations=annotations, spec=spec)


def _traefik(context: Context, cluster: Cluster) -> list[Manifest]:
    objects = [
        *_api_access(cluster),
        manifest(
            _INGRESS,
            "IngressClass",
            traefik.INGRESS_CLASS,
            labels=labels(names.TRAEFIK),
            spec={"controller": "traefik.io/ingress-controller"},
        ),
        manifest(_TRAEFIK, "TLSOption", "default", NAMESPACE, spec=traefik.TLS_OPTIONS),
    ]
    objects += [
        manifest(_TRAEFIK, "Middleware", _MIDDLEWARES.get(name, name), LOGIN_NAMESPACE, spec=spec)
        for name, spec in traefik.middlewares(context).items()
    ]
    objects += [
        _ingress_route(context, cluster, route) if route.header else _traefik_ingress(context, cluster, route)
        for route in traefik.ROUTES
    ]
    if cluster.state.maintenance:
        rule, priority = traefik.MAINTENANCE_RULE, traefik.MAINTENANCE_PRIORITY
        maintenance = Route(names.MAINTENANCE, names.MAINTENANCE, priority)
        objects.append(_ingress_route(context, cluster, maintenance, rule))
    return objects


def _middlewares(route: Route) -> list[str]:
    return [_MIDDLEWARES.get(name, name) for name in (*traefik.COMMON_MIDDLEWARES, *route.middlewares)]


def _traefik_ingress(context: Context, cluster: Cluster, route: Route) -> Manifest:
    prefix = "traefik.ingress.kubernetes.io/router"
    annotations = {
        f"{prefix}.entrypoints": "websecure",
        f"{prefix}.tls": "true",
        f"{prefix}.priority": str(route.priority),
        f"{prefix}.middlewares": ",".join(
            f"{LOGIN_NAMESPACE}-{name}@kubernetescrd" for name in _middlewares(route)
        ),
    }
    backend = _Backend(route.service, ((route.path, route.exact),))
    return _ingress(context, cluster, route.name, backend, annotations)


def _ingress_route(context: Context, cluster: Cluster, route: Route, rule: str = "") -> Manifest:
    """A route that an Ingress can't say."""
    hosts = " || ".join(f"Host(`{host}`)" for host in _hosts(context))
    spec = {
        "entryPoints": ["websecure"],
        "routes": [
            {
                "kind": "Rule",
                "match": f"({hosts}) && {rule or route.rule}",
                "priority": route.priority,
                "middlewares": [{"name": name, "namespace": LOGIN_NAMESPACE} for name in _middlewares(route)],
                "services": [{"name": route.service, "port": _PORTS[route.service]}],
            }
        ],
        "tls": {"secretName": CERTIFICATE_SECRET},
    }
    namespace = cluster.platform.namespace_of(route.service)
    return manifest(_TRAEFIK, "IngressRoute", route.name, namespace, labels=labels(route.service), spec=spec)


def _api_access(cluster: Cluster) -> list[Manifest]:
    """What the proxy may read: in our two namespaces, and the classes of ingresses."""
    name, own = names.TRAEFIK, labels(names.TRAEFIK)
    account = {
        "kind": "ServiceAccount",
        "name": names.TRAEFIK,
        "namespace": cluster.platform.namespace_of(names.TRAEFIK),
    }
    rules = [
        {"apiGroups": [""], "resources": ["services", "secrets", "configmaps"], "verbs": _READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": _READ},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"], "verbs": ["update"]},
        {"apiGroups": ["traefik.io"], "resources": _TRAEFIK_KINDS, "verbs": _READ},
    ]
    cluster_rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": _READ},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingressclasses"], "verbs": _READ},
    ]

    def binding(kind: str, role: str, name: str, namespace: str = "") -> Manifest:
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name}
        return manifest(_RBAC, kind, name, namespace, labels=own, roleRef=reference, subjects=[account])

    cluster_name = f"{NAMESPACE}-{name}"
    objects = [
        manifest(_RBAC, "ClusterRole", cluster_name, labels=own, rules=cluster_rules),
        binding("ClusterRoleBinding", "ClusterRole", cluster_name),
    ]
    for namespace in (NAMESPACE, LOGIN_NAMESPACE):
        objects.append(manifest(_RBAC, "Role", name, namespace, labels=own, rules=rules))
        objects.append(binding("RoleBinding", "Role", name, namespace))
    return objects


def _nginx(context: Context, cluster: Cluster) -> list[Manifest]:
    """The cluster's NGINX asks the same login; programs get 401 where their paths say that they are."""
    prefix = "nginx.ingress.kubernetes.io"
    login = f"{names.OAUTH2_PROXY}.{LOGIN_NAMESPACE}.svc.cluster.local:{names.OAUTH2_PROXY_PORT}"
    plain = {f"{prefix}/ssl-redirect": "true"}
    asked = {
        **plain,
        f"{prefix}/auth-url": f"http://{login}/oauth2/auth",
        f"{prefix}/auth-response-headers": "Authorization",
    }
    sent = {**asked, f"{prefix}/auth-signin": "https://$host/oauth2/start?rd=$escaped_request_uri"}
    rate = traefik.middlewares(context)["webhook-rate"]["rateLimit"]
    limited = {
        **plain,
        f"{prefix}/limit-rps": str(rate["average"]),
        f"{prefix}/limit-burst-multiplier": str(rate["burst"] // rate["average"]),
    }
    programs = [(path, False) for path in oauth2_proxy.API_PATHS]

    def made(name: str, service: str, annotations: dict[str, str], *paths: tuple[str, bool]) -> Manifest:
        return _ingress(context, cluster, name, _Backend(service, paths), annotations)

    if cluster.state.maintenance:
        return [
            made(names.AGENTS, names.MAINTENANCE, plain, ("/", False)),
            made("api", names.AGENTS, asked, ("/health", False)),
        ]
    return [
        made("webhook", names.AGENTS, limited, (traefik.WEBHOOK_PATH, True)),
        made("login", names.OAUTH2_PROXY, plain, ("/oauth2", False)),
        made("api", names.AGENTS, asked, *programs),
        made(names.AGENTS, names.AGENTS, sent, ("/", False)),
    ]
