"""What a real Traefik makes of the rendered routes (K8S-2): the same answers as on a host."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from infra.services import traefik
from tests.integration.runtimes.cluster_edge import ClusterEdge, running_cluster_edge
from tests.unit.runtimes.clusters import find, objects_of, state
from tests.waiting import eventually


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterEdge]:
    with running_cluster_edge(tmp_path_factory.mktemp("cluster-edge")) as running:
        yield running


def bearer(edge: ClusterEdge) -> dict[str, str]:
    return {"Authorization": f"Bearer {edge.login.token()}"}


def test_a_browser_is_sent_to_log_in(edge: ClusterEdge) -> None:
    answer = edge.get("/", {"Accept": "text/html"})
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{edge.login.issuer}/auth?")
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


def test_login_answers_for_itself(edge: ClusterEdge) -> None:
    answer = edge.get("/oauth2/start?rd=/")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{edge.login.issuer}/auth?")


def test_a_program_without_a_token_gets_401(edge: ClusterEdge) -> None:
    before = len(edge.agents.seen)
    for path, headers in (
        ("/api/x", {}),
        ("/", {"Authorization": "Bearer nonsense"}),
        ("/api/x", {"Authorization": f"Bearer {edge.login.unsigned()}"}),
        ("/api/x", {"Authorization": f"Bearer {edge.login.token(aud='others')}"}),
    ):
        assert edge.get(path, headers).status_code == 401, path
    assert len(edge.agents.seen) == before


def test_a_token_opens_the_service_and_identities_do_not(edge: ClusterEdge) -> None:
    spoofed = dict.fromkeys(traefik.IDENTITY_HEADERS, "alice@example.com")
    assert edge.get("/api/x", spoofed).status_code == 401
    answer = edge.get("/api/x?y=1", {**spoofed, **bearer(edge)})
    assert (answer.status_code, answer.json()) == (200, {"from": "agents"})
    path, headers = edge.agents.seen[-1]
    assert path == "/api/x?y=1"
    assert not {name.lower() for name, _ in headers} & {name.lower() for name in traefik.IDENTITY_HEADERS}
    assert dict(headers)["Authorization"].startswith("Bearer ")


def test_webhooks_need_no_login_and_only_they(edge: ClusterEdge) -> None:
    assert edge.get(traefik.WEBHOOK_PATH).json() == {"from": "agents"}
    assert edge.get(f"{traefik.WEBHOOK_PATH}/more").status_code == 401


def test_other_names_have_no_certificate(edge: ClusterEdge) -> None:
    with pytest.raises(httpx.ConnectError, match=r"(?i)unrecognized name"):
        ClusterEdge("other.example.com", edge.https, edge.api, edge.login, edge.agents).get("/")


def test_the_proxy_asked_for_its_own_two_namespaces_only(edge: ClusterEdge) -> None:
    spaces = {
        path.split("/namespaces/")[1].split("/")[0] for path in edge.api.asked if "/namespaces/" in path
    }
    assert spaces == {"agents-service", "auth"}
    resources = {path.rsplit("/", 1)[1] for path in edge.api.asked if path.startswith("/api")} - {"version"}
    granted = {
        resource
        for item in objects_of("production")
        if item["kind"] in {"Role", "ClusterRole"}
        for rule in item["rules"]
        for resource in rule["resources"]
    }
    assert resources <= granted


def test_maintenance_takes_all_but_health(edge: ClusterEdge) -> None:
    shown = objects_of("production", given=state(maintenance=True))
    assert edge.get("/api/x", bearer(edge)).json() == {"from": "agents"}
    edge.api.add(find(shown, "IngressRoute", "maintenance"))
    eventually(
        lambda: edge.get("/api/x", bearer(edge)).json() == {"from": "maintenance"},
        "maintenance",
        10,
        interval=0.05,
    )
    assert edge.get("/").json() == {"from": "maintenance"}
    assert edge.get("/health", bearer(edge)).json() == {"from": "agents"}
