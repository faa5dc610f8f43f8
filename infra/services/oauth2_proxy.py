"""Login (VM-6): asked by the proxy about every request, answers with a bearer token or not at all."""

from __future__ import annotations

import json

from infra.services import names
from infra.services.context import Context
from infra.services.model import (
    EnvironmentFile,
    File,
    Health,
    HttpProbe,
    Network,
    Port,
    Probe,
    Resources,
    Service,
)
from infra.services.traefik import COOKIE_NAME

ENVIRONMENT_FILE = "oauth2-proxy.env"
_CONFIGURATION_PATH = "/etc/oauth2-proxy/oauth2-proxy.cfg"
API_PATHS = ("/api", "/health", "/metrics")
"""Where programs ask, each with all below it."""
API_ROUTES = ("^/api($|[/?])", "^/health($|[/?])", "^/metrics($|[?])")
"""Requests below these get 401 in JSON; others are sent to log in."""


def service(context: Context) -> Service:
    """oauth2-proxy; the client and its secrets are in `oauth2-proxy.env`."""
    login = context.stack.login
    return Service(
        name=names.OAUTH2_PROXY,
        image=names.OAUTH2_PROXY,
        uid=names.USERS[names.OAUTH2_PROXY],
        networks=(Network.EDGE, Network.TELEMETRY),
        command=(f"--config={_CONFIGURATION_PATH}",),
        environment_files=(
            EnvironmentFile(
                ENVIRONMENT_FILE,
                {
                    "OAUTH2_PROXY_CLIENT_ID": login.client_id,
                    "OAUTH2_PROXY_CLIENT_SECRET": login.client_secret,
                    "OAUTH2_PROXY_COOKIE_SECRET": login.cookie_secret,
                },
            ),
        ),
        files=(
            File("oauth2-proxy/oauth2-proxy.cfg", _CONFIGURATION_PATH, configuration(context)),
            *context.trust,
        ),
        ports=(Port("http", names.OAUTH2_PROXY_PORT), Port("metrics", names.OAUTH2_PROXY_METRICS_PORT)),
        health=Health(
            startup=Probe(HttpProbe("/ping", names.OAUTH2_PROXY_PORT), 1, 3, 30),
            readiness=Probe(HttpProbe("/ready", names.OAUTH2_PROXY_PORT), 10, 3, 3),
            liveness=Probe(HttpProbe("/ping", names.OAUTH2_PROXY_PORT), 10, 3, 3),
        ),
        resources=Resources(cpus=0.5, memory_mib=128, pids=128),
        replicated=True,
    )


def configuration(context: Context) -> str:
    """Text of oauth2-proxy.cfg: `name = value`, values as JSON writes them, which TOML reads the same.

    An invalid bearer token counts as none (`bearer_token_login_fallback`): with it off the answer would be
    403. Programs are never sent to log in all the same, because the proxy asks `/oauth2/auth` for whoever
    sends credentials, and API routes answer 401.
    """
    login = context.stack.login
    settings: dict[str, object] = {
        "provider": "oidc",
        "http_address": f"0.0.0.0:{names.OAUTH2_PROXY_PORT}",
        "metrics_address": f"0.0.0.0:{names.OAUTH2_PROXY_METRICS_PORT}",
        "oidc_issuer_url": login.issuer,
        "scope": "openid email profile",
        "code_challenge_method": "S256",
        "oidc_enabled_signing_algs": ["RS256", "ES256", "EdDSA"],
        "oidc_extra_audiences": list(login.audiences),
        "insecure_oidc_skip_nonce": False,
        "email_domains": list(login.email_domains),
        "skip_provider_button": True,
        "skip_jwt_bearer_tokens": True,
        "bearer_token_login_fallback": True,
        "api_routes": list(API_ROUTES),
        "reverse_proxy": True,
        "trusted_proxy_ips": list(context.platform.proxies),
        "upstreams": ["static://202"],
        "set_authorization_header": True,
        "set_xauthrequest": False,
        "pass_user_headers": False,
        "pass_basic_auth": False,
        "pass_access_token": False,
        "cookie_name": COOKIE_NAME,
        "cookie_secure": True,
        "cookie_httponly": True,
        "cookie_samesite": "lax",
        "cookie_path": "/",
        "cookie_expire": "12h",
        "cookie_refresh": "15m",
        "cookie_csrf_per_request": True,
        "cookie_csrf_expire": "5m",
        "silence_ping_logging": True,
        # The request's query, and with it login codes, stays out of the log.
        "request_logging": False,
    }
    if context.trust_path:
        settings |= {"provider_ca_files": [context.trust_path], "use_system_trust_store": True}
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
