"""What values of a stack file must be to each other.

Works on the file's raw values and leaves out what is missing or malformed: that is the types' to say, and all
problems are said at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import TypeAdapter, ValidationError

from infra import local
from infra.config.model import LEAST_SCRAPES, Metrics, Role, Rollout, Scaling, SecretStore, Variables
from infra.config.types import DomainName

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """Values that contradict each other; `found` is never a secret's value, None where nothing is."""

    location: Location
    found: str | None
    accepted: str


def problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Every contradiction between values of a stack file, whose keys are without namespace."""
    yield from _machines(values)
    yield from _clusters(values)
    yield from _names(values)
    yield from _budgets(values)
    yield from _recipients(values)
    yield from _window(values)


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _mappings(listed: object) -> list[Mapping[str, Any]]:
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _places(
    where: Location, places: list[Mapping[str, Any]], what: str, own: tuple[str, ...]
) -> Iterator[Problem]:
    """An environment is in two places of different roles, which share none of the keys `own`."""
    roles = [place["role"] for place in places if place.get("role") in list(Role)]
    if places and len(roles) == len(places) and sorted(roles) != sorted(Role):
        yield Problem(where, f"roles {', '.join(roles)}", "one primary and one standby")
    for key in own:
        found = [place[key] for place in places if isinstance(place.get(key), str)]
        if len(set(found)) != len(found):
            yield Problem(where, f"{key} {', '.join(found)}", f"a {key} of its own for every {what}")


def _clusters(values: Mapping[str, Any]) -> Iterator[Problem]:
    kubernetes = _section(values, "kubernetes")
    clusters = _mappings(kubernetes.get("clusters"))
    yield from _places(("kubernetes", "clusters"), clusters, "cluster", ("context", "region"))
    scaling = _section(kubernetes, "scaling")
    minimum, maximum = (scaling.get(key, Scaling.model_fields[key].default) for key in ("minimum", "maximum"))
    if isinstance(minimum, int) and isinstance(maximum, int) and maximum < minimum:
        yield Problem(("kubernetes", "scaling", "maximum"), str(maximum), f"at least minimum, {minimum}")


def _machines(values: Mapping[str, Any]) -> Iterator[Problem]:
    hosts = _section(values, "hosts")
    machines = _mappings(hosts.get("machines"))
    where: Location = ("hosts", "machines")
    yield from _places(where, machines, "machine", ("name", "region", "address", "ip_range"))
    if hosts.get("driver") != "docker":
        return
    places = {machine.name: machine.region for machine in local.MACHINES}
    for index, machine in enumerate(machines):
        name, region = machine.get("name"), machine.get("region")
        if isinstance(name, str) and isinstance(region, str) and places.get(name) != region:
            known = " or ".join(f"{place} in region {places[place]}" for place in places)
            yield Problem((*where, index), f"{name} in region {region}", f"with driver docker: {known}")


def _names(values: Mapping[str, Any]) -> Iterator[Problem]:
    dns = _section(values, "dns")
    zone, challenge_zone, domain = dns.get("zone"), dns.get("challenge_zone"), values.get("domain")
    if not isinstance(zone, str):
        return
    if _is_domain(domain) and not str(domain).endswith(f".{zone}"):
        yield Problem(("domain",), str(domain), f"a name below dns.zone, {zone}")
    if challenge_zone == zone:
        yield Problem(("dns", "challenge_zone"), zone, "another zone than dns.zone, with a key of its own")


def _is_domain(value: object) -> bool:
    try:
        TypeAdapter(DomainName).validate_python(value)
    except ValidationError:
        return False
    return True


def _budgets(values: Mapping[str, Any]) -> Iterator[Problem]:
    primary, standby = _section(values, "variables"), _section(values, "standby_variables")
    for section, variables in (("variables", primary), ("standby_variables", {**primary, **standby})):
        session, daily = (_amount(variables, name) for name in _BUDGETS)
        if session and daily and session > daily and (section == "variables" or set(_BUDGETS) & set(standby)):
            yield Problem((section, _BUDGETS[0]), str(session), f"at most {_BUDGETS[1]}, {daily}")


_BUDGETS = ("AGENT_SESSION_BUDGET_USD", "AGENT_DAILY_BUDGET_USD")


def _amount(variables: Mapping[str, Any], name: str) -> Decimal | None:
    value = variables.get(name, Variables.model_fields[name].default)
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _window(values: Mapping[str, Any]) -> Iterator[Problem]:
    window = _section(values, "rollout").get("window_seconds", Rollout.model_fields["window_seconds"].default)
    scrape = _section(values, "metrics").get("scrape_seconds", Metrics.model_fields["scrape_seconds"].default)
    if isinstance(window, int) and isinstance(scrape, int) and window < LEAST_SCRAPES * scrape:
        accepted = f"at least {LEAST_SCRAPES} times metrics.scrape_seconds, {LEAST_SCRAPES * scrape}"
        yield Problem(("rollout", "window_seconds"), str(window), accepted)


def _recipients(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Only machines in containers of this computer go with secrets that are its user's alone."""
    secretstore = _section(values, "secretstore")
    driver = _section(values, "hosts").get("driver")
    sops = secretstore.get("driver", SecretStore.model_fields["driver"].default) == "sops"
    elsewhere = isinstance(driver, str) and driver != "docker"
    if sops and elsewhere and secretstore.get("recipients") in (None, []):
        accepted = "with driver sops: a list of one or more age public keys, those of all operators"
        yield Problem(("secretstore", "recipients"), None, accepted)
