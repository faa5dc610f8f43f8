"""The section `kubernetes` of a stack file: what is said about what is not accepted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from infra.config.load import ConfigurationError, stack_file, validate
from infra.config.model import ManagedData, NginxIngress, Role, SelfHostedData

Section = dict[str, Any]


def loaded(change: Callable[[Section], Any] = lambda section: None) -> Any:
    document = yaml.safe_load(stack_file("production").read_text())
    config = copy.deepcopy(document["config"])
    change(config["icupa:kubernetes"])
    return validate("production", config).kubernetes


def test_section_of_production() -> None:
    settings = loaded()
    assert [cluster.role for cluster in settings.clusters] == list(Role)
    assert isinstance(settings.data, ManagedData)
    assert (settings.scaling.minimum, settings.scaling.maximum) == (2, 6)


def test_drivers_may_be_others() -> None:
    settings = loaded(
        lambda section: section.update(data={"driver": "self-hosted"}, ingress={"driver": "nginx"})
    )
    assert isinstance(settings.data, SelfHostedData)
    assert isinstance(settings.ingress, NginxIngress)
    assert settings.ingress.namespace == "ingress-nginx"


REFUSED: dict[str, tuple[Callable[[Section], Any], str]] = {
    "no clusters": (
        lambda section: section.update(clusters=[]),
        "icupa:kubernetes.clusters: found an empty list",
    ),
    "two primaries": (
        lambda section: section["clusters"][1].update(role="primary"),
        'icupa:kubernetes.clusters: found "roles primary, primary"; accepted: one primary and one standby',
    ),
    "one context twice": (
        lambda section: section["clusters"][1].update(context=section["clusters"][0]["context"]),
        "accepted: a context of its own for every cluster",
    ),
    "one region twice": (
        lambda section: section["clusters"][1].update(region="ams3"),
        "accepted: a region of its own for every cluster",
    ),
    "context": (
        lambda section: section["clusters"][0].update(context="a b"),
        'icupa:kubernetes.clusters[0].context: found "a b"; accepted: a context of the kubeconfig',
    ),
    "pod networks": (
        lambda section: section["clusters"][0].pop("pod_networks"),
        "icupa:kubernetes.clusters[0].pod_networks: found nothing; accepted: an IPv4 network",
    ),
    "driver of data": (
        lambda section: section.update(data={"driver": "mysql"}),
        "icupa:kubernetes.data.driver: found \"mysql\"; accepted: 'managed', 'self-hosted'",
    ),
    "host of the database": (
        lambda section: section["data"]["database"].update(host="db"),
        'icupa:kubernetes.data.database.host: found "db"; accepted: a domain name',
    ),
    "unknown key below a driver": (
        lambda section: section["data"].update(databse={}),
        "icupa:kubernetes.data.databse: found an unknown key (did you mean database?)",
    ),
    "one replica": (
        lambda section: section.update(scaling={"minimum": 1}),
        "icupa:kubernetes.scaling.minimum: found 1; accepted: a whole number, 2 to 100",
    ),
    "most below least": (
        lambda section: section.update(scaling={"minimum": 8}),
        'icupa:kubernetes.scaling.maximum: found "6"; accepted: at least minimum, 8',
    ),
    "percent": (
        lambda section: section.update(scaling={"cpu_percent": 100}),
        "icupa:kubernetes.scaling.cpu_percent: found 100; accepted: a whole number of percent, 10 to 95",
    ),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said_with_key_and_what_is_accepted(
    change: Callable[[Section], Any], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(change)
    assert len(caught.value.problems) == 1
    assert said in str(caught.value)
