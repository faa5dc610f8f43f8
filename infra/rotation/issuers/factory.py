"""Which driver a secret of the catalogue has, and what an operator does where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from infra.config.model import Rfc2136Dns
from infra.outputs.model import StackOutputs
from infra.rotation.databases import APP_PASSWORD
from infra.rotation.issuers import checkers, consumers, openai, supabase, vercel
from infra.rotation.issuers.environment import Environment, Web
from infra.rotation.issuers.errors import NoIssuerError
from infra.rotation.issuers.http import Api
from infra.rotation.issuers.model import Checker, Issuer, Values
from infra.secrets.catalogue import CATALOGUE, Driver, Secret
from infra.secrets.references import find, parse
from infra.services import agents, names

_PUT_IN = "put it into the store with `python -m infra.secretstore set`"
_BY_HAND: Mapping[str, str] = MappingProxyType(
    {
        "supabase-management-token": "make one in the account's access tokens, {put_in}, delete the old one",
        "slack-token": "the app's settings revoke the bot's token and install it again: {put_in} at once",
        "pagerduty-token": "add an integration (Events API v2) to the service, {put_in}, delete the old one",
        "statuspage-token": "make a key in the account's API settings, {put_in}, delete the old one",
        "whatsapp-app-secret": "reset it in Meta's app settings and {put_in} at once",
    }
)
"""By name of the secret; drivers' follow."""
_BY_HAND_WITH: Mapping[Driver, str] = MappingProxyType(
    {
        Driver.OIDC: "set a new secret of the client at the provider and {put_in} at once",
        Driver.TRACES: "make a token in the backend's access policies, {put_in}, delete the old one",
        Driver.REGISTRY: "make a token in the registry's settings, {put_in}, delete the old one",
        Driver.NAMESERVER: "add a key to the name server by another name, {put_in}, name it in icupa:dns",
        Driver.CLOUDFLARE: "make a token with the same permissions, {put_in}, delete the old one",
        Driver.DIGITALOCEAN: "make a token with the same scopes, {put_in}, delete the old one",
        Driver.SLACK: "add a webhook for the channel in the app's settings, {put_in}, remove the old one",
        Driver.POSTGRES: "give the role the new password where the database is run, and {put_in} at once",
        Driver.REDIS: "give Redis the new password where it is run, and {put_in} at once",
        Driver.BACKUP: "make an identity, {put_in}, keep the old one as long as its backups",
        Driver.SIGNATURE: "sign the releases that are kept with the new key, then {put_in}",
        Driver.WORLD: "`make down` removes it with its stack, `make up` makes another",
    }
)
_QUESTIONS: Mapping[str, consumers.Question | None] = MappingProxyType(
    {
        "whatsapp-app-secret": consumers.app_secret,
        "whatsapp-verify-token": consumers.verify_token,
        "oauth2-proxy-cookie-secret": consumers.cookie_secret,
        agents.METRICS_TOKEN: None,
    }
)


def issuer(name: str, outputs: StackOutputs, secrets: Values, *, web: Web | None = None) -> Issuer:
    """Driver that makes values of a secret of the catalogue, in the environment of these outputs.

    Raises:
        NoIssuerError: an operator makes them by hand; the error says how.
    """
    secret = CATALOGUE[name]
    found = _build(secret, Environment.of(outputs, secrets, web))
    if not isinstance(found, Issuer):
        raise _none(secret)
    return found


def checker(name: str, outputs: StackOutputs, secrets: Values, *, web: Web | None = None) -> Checker:
    """What tells whether a value of a secret is valid, also where `issuer` has nobody to ask.

    Raises:
        NoIssuerError: no call tells it without effect, or nothing of this environment uses the secret.
    """
    secret = CATALOGUE[name]
    found = _build(secret, Environment.of(outputs, secrets, web))
    if found is None:
        raise _none(secret)
    return found


def _none(secret: Secret, why: str = "") -> NoIssuerError:
    driver = secret.rotation.driver
    text = _BY_HAND.get(secret.name) or _BY_HAND_WITH[driver]
    return NoIssuerError(secret.name, driver, why or text.format(put_in=_PUT_IN))


def _build(secret: Secret, environment: Environment) -> Checker | None:
    build = _BUILDERS.get(secret.rotation.driver)
    return build(secret, environment) if build else None


def _openai(secret: Secret, environment: Environment) -> Checker:
    if secret.name == openai.ADMIN_KEY:
        return openai.AdministratorKeys(environment)
    return openai.ProjectKeys(environment)


def _supabase(secret: Secret, environment: Environment) -> Checker:
    if secret.name == supabase.SERVICE_ROLE_KEY:
        return supabase.SecretKeys(environment)
    return supabase.ManagementToken(environment)


def _slack(secret: Secret, environment: Environment) -> Checker:
    return (
        checkers.SlackToken(environment)
        if secret.name == "slack-token"
        else checkers.SlackWebhook(environment)
    )


def _consumers(secret: Secret, environment: Environment) -> Checker:
    return consumers.Consumers(environment, secret.name, secret.generate, _QUESTIONS[secret.name])


def _meta(secret: Secret, environment: Environment) -> Checker:
    """The verify token is ours to choose; the app's secret is Meta's, unless there is no Meta."""
    asked = _consumers(secret, environment)
    if secret.name == "whatsapp-app-secret" and not environment.is_local:
        return checkers.Only(asked)
    return asked


def _oidc(secret: Secret, environment: Environment) -> Checker:
    login = environment.outputs.settings.login
    if secret.name == parse(login.client_secret):
        return checkers.ClientSecret(environment, login.client_id, program=False)
    if secret.name == parse(login.smoke_client_secret):
        return checkers.ClientSecret(environment, login.smoke_client_id, program=True)
    raise _unused(secret, "icupa:login")


def _traces(secret: Secret, environment: Environment) -> Checker:
    query = environment.outputs.settings.traces
    if query and secret.name == parse(query.token):
        return checkers.TracesQueryToken(environment, query)
    for headers in environment.variable(_PROJECT_FILE, "OTLP_EXPORTER_HEADERS"):
        if secret.name in find(headers):
            endpoint = environment.variable(_PROJECT_FILE, "OTLP_EXPORTER_ENDPOINT")[0]
            return checkers.TracesToken(environment, endpoint, headers, secret.name)
    raise _unused(secret, "icupa:traces and OTLP_EXPORTER_HEADERS")


def _registry(secret: Secret, environment: Environment) -> Checker:
    return checkers.RegistryPassword(environment)


def _nameserver(secret: Secret, environment: Environment) -> Checker:
    config = environment.outputs.settings.dns
    if not isinstance(config, Rfc2136Dns):
        raise _unused(secret, "icupa:dns")
    return checkers.TsigKey(config, secret.name)


def _databases(secret: Secret, environment: Environment) -> Checker | None:
    """Passwords of databases that the hosts run are ours; those told of them are asked on the hosts."""
    services = environment.services
    if not {names.POSTGRES, names.REDIS} <= services:
        return None
    generate = secret.generate
    if secret.name == APP_PASSWORD:
        generate = consumers.turning(secret.generate, lambda: environment.secrets.get(APP_PASSWORD))
    return consumers.Consumers(environment, secret.name, generate, None)


def _unused(secret: Secret, where: str) -> NoIssuerError:
    return _none(secret, f"{where} of this environment does not name it")


_PROJECT_FILE = ".env"
_Build = Callable[[Secret, Environment], Checker | None]
_BUILDERS: Mapping[Driver, _Build] = MappingProxyType(
    {
        Driver.OPENAI: _openai,
        Driver.SUPABASE: _supabase,
        Driver.OIDC: _oidc,
        Driver.TRACES: _traces,
        Driver.REGISTRY: _registry,
        Driver.META: _meta,
        Driver.NAMESERVER: _nameserver,
        Driver.CLOUDFLARE: lambda _, environment: checkers.CloudflareToken(environment),
        Driver.DIGITALOCEAN: lambda _, environment: checkers.ApiToken(
            Api("DigitalOcean", environment.endpoint("digitalocean"), environment.web), "/v2/account"
        ),
        Driver.SLACK: _slack,
        Driver.PAGERDUTY: lambda _, environment: checkers.RoutingKey(environment),
        Driver.VERCEL: lambda _, environment: vercel.Tokens(environment),
        Driver.STATUSPAGE: lambda _, environment: checkers.ApiToken(
            Api("Statuspage", environment.endpoint("statuspage"), environment.web),
            "/v1/pages",
            list[checkers.Anything],
            "OAuth",
        ),
        Driver.CONSUMERS: _consumers,
        Driver.POSTGRES: _databases,
        Driver.REDIS: _databases,
    }
)
