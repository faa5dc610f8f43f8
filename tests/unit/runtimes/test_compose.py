"""The Compose renderer: pure, its result is JSON, a service gets what its definition says and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import PurePosixPath
from typing import Any

import pytest

from infra.config.load import load_file
from infra.config.model import Role
from infra.runtimes.__main__ import main
from infra.runtimes.compose import RenderedProject, RenderError, render
from infra.secrets.references import find
from infra.services import names
from infra.services.context import Context
from infra.services.model import (
    CommandProbe,
    Dependency,
    EnvironmentFile,
    File,
    Health,
    Network,
    Port,
    Probe,
    Resources,
    Service,
    Topology,
)
from infra.services.topology import topology

STACKS = ("local", "staging", "production")


def references(services: Topology) -> dict[str, str]:
    return {name: f"registry.example.com/icupa/{name}@sha256:{'0' * 64}" for name in services.images}


def project_of(stack: str, role: Role = Role.PRIMARY) -> RenderedProject:
    loaded = load_file(stack)
    machine = next(machine for machine in loaded.hosts.machines if machine.role is role)
    services = topology(Context(stack, loaded, machine.region, role))
    return render(services, references(services))


@pytest.fixture(params=STACKS)
def project(request: pytest.FixtureRequest) -> RenderedProject:
    return project_of(request.param)


def service(**changes: Any) -> Service:
    plain = Service("web", "web", 10100, (Network.EDGE,), Resources(cpus=1, memory_mib=64))
    return replace(plain, **changes)


def alone(*services: Service, variables: dict[str, str] | None = None) -> Topology:
    return Topology(
        services,
        EnvironmentFile(".env", variables or {}),
        edge_subnet=str(names.EDGE_SUBNET),
        edge_gateway=str(names.EDGE_GATEWAY),
        edge_pool=str(names.EDGE_POOL),
    )


def rendered(**changes: Any) -> dict[str, Any]:
    compose = render(alone(service(**changes)), {"web": "image"})["compose"]
    found: dict[str, Any] = compose["services"]["web"]
    return found


def test_result_is_json_and_always_the_same(project: RenderedProject) -> None:
    assert json.loads(json.dumps(project)) == project
    for stack in STACKS:
        assert json.dumps(project_of(stack)) == json.dumps(project_of(stack))


def test_slots_are_services_with_profiles(project: RenderedProject) -> None:
    services = project["compose"]["services"]
    for slot in ("blue", "green"):
        assert services[f"agents-{slot}"]["profiles"] == [slot]
        assert services[f"agents-{slot}"]["image"] == f"${{AGENTS_IMAGE_{slot.upper()}}}"
        assert services[f"migrate-{slot}"]["image"] == services[f"agents-{slot}"]["image"]
        wanted = services[f"agents-{slot}"]["depends_on"]
        assert wanted[f"migrate-{slot}"] == {"condition": "service_completed_successfully"}
        assert wanted["postgres"] == {"condition": "service_healthy"}
    assert not any("profiles" in services[name] for name in ("traefik", "postgres", "otel-collector"))
    assert "agents" not in services


def test_runtime_state_is_named_and_has_no_value(project: RenderedProject) -> None:
    assert project["runtime"][".env"] == ["AGENTS_IMAGE_BLUE", "AGENTS_IMAGE_GREEN", "COMPOSE_PROFILES"]
    assert project["runtime"]["agents-service.env"] == [
        "AI_REALTIME_ENABLED",
        "AI_RESPONSES_ENABLED",
        "WHATSAPP_INTEGRATION_ENABLED",
        "FEATURE_AGENT_CHAT",
        "FEATURE_AGENT_VOICE",
        "FEATURE_AGENT_VOUCHERS",
    ]
    for file, variables in project["runtime"].items():
        assert not set(variables) & set(project["env_files"][file])


def test_every_image_but_the_slots_is_pinned(project: RenderedProject) -> None:
    for name, service in project["compose"]["services"].items():
        assert "profiles" in service or "@sha256:" in service["image"], name


def test_every_service_is_confined(project: RenderedProject) -> None:
    for name, service in project["compose"]["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].split(":")[0]) >= 10001, name
        assert service["pids_limit"] > 0, name
        assert service["mem_limit"] == service["memswap_limit"], name
        assert service["cpus"] > 0, name
        assert service["logging"]["options"]["max-size"], name
        assert "privileged" not in service, name
        assert not any("docker.sock" in str(mount) for mount in service.get("volumes", [])), name


def test_jobs_end_and_services_stay(project: RenderedProject) -> None:
    restarts = {name: item["restart"] for name, item in project["compose"]["services"].items()}
    assert {name for name, policy in restarts.items() if policy == "no"} == {"migrate-blue", "migrate-green"}
    assert set(restarts.values()) == {"no", "unless-stopped"}


def test_every_service_but_jobs_has_a_health_check(project: RenderedProject) -> None:
    for name, item in project["compose"]["services"].items():
        assert ("healthcheck" in item) == (item["restart"] != "no"), name


def test_no_secret_is_in_the_compose_file(project: RenderedProject) -> None:
    assert find(json.dumps(project["compose"])) == ()


def test_files_that_hold_references_are_secret_and_their_readers_only(project: RenderedProject) -> None:
    services = project["compose"]["services"]
    for file in project["files"]:
        assert file.get("secret", False) == bool(find(file["content"])), file["path"]
        readers = {
            int(item["user"].split(":")[0])
            for item in services.values()
            for mount in item.get("volumes", [])
            if mount["source"] in {f"./{file['path']}", f"./{PurePosixPath(file['path']).parent}"}
        }
        if file.get("secret"):
            assert (file["mode"], {file["uid"]}) == (0o400, readers), file["path"]
        else:
            assert (file["mode"], file["uid"], file["gid"]) == (0o644, 0, 0), file["path"]


def test_every_mount_is_of_the_project_and_read_only(project: RenderedProject) -> None:
    paths = {file["path"] for file in project["files"]} | {item["path"] for item in project["directories"]}
    for name, item in project["compose"]["services"].items():
        for mount in item.get("volumes", []):
            if mount["type"] == "volume":
                assert mount["source"] in project["compose"]["volumes"]
                continue
            assert mount["read_only"] is True, name
            assert mount["source"].removeprefix("./") in paths, name
            assert mount["bind"] == {"create_host_path": False}


def test_parents_come_before_children(project: RenderedProject) -> None:
    made = [item["path"] for item in project["directories"]]
    assert made == sorted(made)
    for path in [*made, *(file["path"] for file in project["files"])]:
        parent = path.rpartition("/")[0]
        assert not parent or parent in made, path
    modes = {item["path"]: item["mode"] for item in project["directories"]}
    assert modes["secrets"] == modes["secrets/postgres"] == 0o700
    assert modes["traefik/dynamic"] == 0o755


def test_networks_have_a_way_out_only_where_needed(project: RenderedProject) -> None:
    networks = project["compose"]["networks"]
    assert {name for name, item in networks.items() if item.get("internal")} == {"data", "telemetry"}
    (pool,) = networks["edge"]["ipam"]["config"]
    assert (pool["subnet"], pool["gateway"]) == (str(names.EDGE_SUBNET), str(names.EDGE_GATEWAY))
    assert names.TRAEFIK_ADDRESS not in IPv4Network(pool["ip_range"])
    edge = project["compose"]["services"]["traefik"]["networks"]["edge"]
    assert edge == {"ipv4_address": str(names.TRAEFIK_ADDRESS)}
    assert "default" not in networks


def test_slots_share_a_name_for_scraping_only(project: RenderedProject) -> None:
    for slot in ("blue", "green"):
        networks = project["compose"]["services"][f"agents-{slot}"]["networks"]
        assert networks["telemetry"] == {"aliases": ["agents"]}
        assert networks["edge"] == {}


def test_standby_differs_where_its_region_does() -> None:
    primary, standby = project_of("production"), project_of("production", Role.STANDBY)
    assert primary["env_files"]["agents-service.env"]["SUPABASE_URL"] == "https://icupa-ams.supabase.co"
    assert standby["env_files"]["agents-service.env"]["SUPABASE_URL"] == "https://icupa-fra.supabase.co"
    assert primary["compose"] == standby["compose"]


def test_images_may_be_anything() -> None:
    pending = object()
    compose = render(alone(service()), {"web": pending})["compose"]
    assert compose["services"]["web"]["image"] is pending


def test_compose_replaces_nothing_in_commands() -> None:
    result = rendered(command=("echo", "$HOME ${x}"), environment={"A": "1$2"})
    assert result["command"] == ["echo", "$$HOME $${x}"]
    assert result["environment"] == {"A": "1$$2"}


def test_health_check_follows_readiness_with_the_patience_of_startup() -> None:
    check = CommandProbe(("check", "$status"))
    health = Health(startup=Probe(check, 2, 1, 30), readiness=Probe(check, 10, 3, 4))
    assert rendered(health=health)["healthcheck"] == {
        "test": ["CMD", "check", "$$status"],
        "interval": "10s",
        "timeout": "3s",
        "retries": 4,
        "start_period": "60s",
        "start_interval": "2s",
    }


def test_variables_of_the_project_are_handed_on() -> None:
    assert rendered(project_variables=("TOKEN",))["environment"] == {"TOKEN": "${TOKEN}"}


REFUSED = {
    "unknown dependency": ((service(dependencies=(Dependency("db"),)),), "web depends on db; accepted: web"),
    "unknown image": ((service(image="nginx"),), "web has no image nginx; accepted: web"),
    "secret in the environment": (
        (service(environment={"KEY": "${secret:openai-api-key}"}),),
        "web: KEY holds a secret",
    ),
    "one port twice": (
        (
            service(ports=(Port("http", 80, published=80),)),
            service(name="other", ports=(Port("http", 81, published=80),)),
        ),
        "other publishes 80 as web does",
    ),
    "call without a network": (
        (service(calls=("db",)), service(name="db", networks=(Network.DATA, Network.EGRESS))),
        "web calls db, but no network has both",
    ),
    "dependency without a network": (
        (
            service(networks=(Network.EGRESS,), dependencies=(Dependency("db"),)),
            service(name="db", networks=(Network.DATA, Network.EGRESS)),
        ),
        "web calls db, but no network has both",
    ),
    "one name twice": ((service(), service()), "same name"),
}


@pytest.mark.parametrize(("services", "said"), REFUSED.values(), ids=REFUSED)
def test_contradiction_is_refused(services: tuple[Service, ...], said: str) -> None:
    with pytest.raises(RenderError, match=said):
        render(alone(*services), {"web": "image"})


def test_all_contradictions_are_said_at_once() -> None:
    broken = service(image="nginx", dependencies=(Dependency("db"),), environment={"K": "${secret:x}"})
    with pytest.raises(RenderError) as caught:
        render(alone(broken), {"web": "image"})
    assert len(str(caught.value).splitlines()) == 3


def test_one_file_with_two_contents_is_refused() -> None:
    one = service(files=(File("a", "/a", "1"),))
    other = service(name="other", files=(File("a", "/a", "2"),))
    with pytest.raises(RenderError, match="a is given two contents or readers"):
        render(alone(one, other), {"web": "image"})


def test_command_prints_a_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", "production", "--host", "standby"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["env_files"]["agents-service.env"]["REGION"] == "fra1"


def test_command_names_the_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", "production", "--host", "x"]) == 1
    assert "accepted: primary, standby" in capsys.readouterr().err


def nulls(value: Any, path: str = "") -> list[str]:
    """Places where a value is null."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in nulls(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in nulls(item, f"{path}.{number}")]
    return [path] if value is None else []


def test_nothing_is_null_because_outputs_of_pulumi_lose_it(project: RenderedProject) -> None:
    assert nulls(project) == []
    assert set(project["compose"]["services"]["agents-blue"]["networks"]) == {"edge", "data", "telemetry"}
