"""The Kubernetes renderer: what each object promises, and what is refused."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from infra.config.load import load_file
from infra.config.model import Role
from infra.runtimes.kubernetes import (
    Cluster,
    ClusterState,
    Manifest,
    RenderError,
    cluster_context,
    clusters,
    render_services,
)
from infra.runtimes.kubernetes.schema import check
from infra.runtimes.kubernetes.text import as_yaml
from infra.secrets.references import find as references
from infra.services import names
from infra.services.model import (
    Condition,
    Dependency,
    Directory,
    EnvironmentFile,
    Health,
    HttpProbe,
    Network,
    Probe,
    Resources,
    Service,
    Topology,
    Volume,
)
from infra.services.topology import topology
from tests.unit.runtimes.clusters import (
    DIGEST,
    MANAGED,
    NGINX,
    SELF_HOSTED,
    STACKS,
    context_of,
    find,
    objects_of,
    pod_specs,
    state,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "managed": {"data": MANAGED},
    "self-hosted": {"data": SELF_HOSTED},
    "nginx": {"data": MANAGED, "ingress": NGINX},
    "nginx self-hosted": {"data": SELF_HOSTED, "ingress": NGINX},
}
REPLICATED = {"agents", "traefik", "oauth2-proxy", "maintenance"}
AGENTS, AUTH = "agents-service", "auth"


@pytest.fixture(params=VARIANTS)
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    return objects_of("production", **VARIANTS[request.param])


@pytest.fixture
def plain() -> list[Manifest]:
    return objects_of("production", data=SELF_HOSTED)


def containers(objects: list[Manifest]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, container)
        for name, spec in pod_specs(objects).items()
        for container in (*spec["containers"], *spec.get("initContainers", []))
    ]


# --- as a whole


def test_result_is_json_always_the_same_and_known_to_the_sdk(objects: list[Manifest]) -> None:
    assert json.loads(json.dumps(objects)) == objects
    check(objects)
    keys = Counter(
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects
    )
    assert set(keys.values()) == {1}
    assert len(keys) > 60


def test_every_stack_has_a_cluster_of_each_role() -> None:
    for name in STACKS:
        roles = {cluster.role for cluster in clusters(name, load_file(name))}
        assert roles == set(Role)
        first, second = (objects_of(name, role) for role in Role)
        check(first)
        check(second)
        assert objects_of(name) == first
        regions = [find(side, "ConfigMap", "agents-env")["data"]["REGION"] for side in (first, second)]
        assert len(set(regions)) == 2


def test_values_of_secrets_are_nowhere_and_references_in_secrets_only(objects: list[Manifest]) -> None:
    secrets = [item for item in objects if item["kind"] == "Secret"]
    assert len(secrets) >= 7
    for item in secrets:
        assert "data" not in item
        assert all(references(text) for text in item["stringData"].values()), item["metadata"]["name"]
    assert references(json.dumps([item for item in objects if item["kind"] != "Secret"])) == ()


def test_standby_has_the_variables_of_its_region() -> None:
    urls = [
        find(objects_of("production", role), "ConfigMap", "agents-env")["data"]["SUPABASE_URL"]
        for role in (Role.PRIMARY, Role.STANDBY)
    ]
    assert urls == ["https://icupa-ams.supabase.co", "https://icupa-fra.supabase.co"]


# --- namespaces, accounts, priority


def test_namespaces_enforce_the_restricted_standard(objects: list[Manifest]) -> None:
    spaces = [item for item in objects if item["kind"] == "Namespace"]
    assert [item["metadata"]["name"] for item in spaces] == [AGENTS, AUTH]
    assert objects[: len(spaces)] == spaces
    for item in spaces:
        assert item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    used = {item["metadata"].get("namespace") for item in objects} - {None}
    assert used == {AGENTS, AUTH}
    cluster_wide = {item["kind"] for item in objects if "namespace" not in item["metadata"]}
    assert cluster_wide <= {
        "Namespace",
        "PriorityClass",
        "ClusterRole",
        "ClusterRoleBinding",
        "IngressClass",
    }


def test_only_the_proxy_has_a_token(objects: list[Manifest]) -> None:
    specs = pod_specs(objects)
    with_token = {name for name, spec in specs.items() if spec["automountServiceAccountToken"]}
    assert with_token == specs.keys() & {"traefik"}
    for name, spec in specs.items():
        assert spec["serviceAccountName"] == name
        account = find(objects, "ServiceAccount", name)
        assert account["automountServiceAccountToken"] is False
        namespace = account["metadata"]["namespace"]
        (pull,) = account["imagePullSecrets"]
        made = find(objects, "Secret", "registry", namespace)
        assert (pull["name"], made["type"]) == (made["metadata"]["name"], "kubernetes.io/dockerconfigjson")
        login = json.loads(made["stringData"][".dockerconfigjson"])
        assert login == {
            "auths": {"ghcr.io": {"username": "icupa-bot", "password": "${secret:registry-password}"}}
        }


def test_pods_have_the_priority_that_is_made(objects: list[Manifest]) -> None:
    made = find(objects, "PriorityClass", "agents-service")
    assert made["globalDefault"] is False
    assert 0 < made["value"] < 2_000_000_000
    assert {spec["priorityClassName"] for spec in pod_specs(objects).values()} == {"agents-service"}


# --- configuration


def test_configuration_is_immutable_named_by_its_content_and_used(objects: list[Manifest]) -> None:
    made = {
        (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item
        for item in objects
        if item["kind"] in {"ConfigMap", "Secret"}
    }
    mutable = {name for (_, _, name), item in made.items() if not item.get("immutable")}
    assert mutable == {"agents-switches"}
    for kind, _, name in made:
        if name not in mutable:
            assert re.search(r"-[0-9a-f]{10}$", name), (kind, name)
    text = json.dumps([item for item in objects if item["kind"] not in {"ConfigMap", "Secret"}])
    for _, _, name in made:
        assert f'"{name}"' in text, name


@pytest.mark.parametrize("secret", ["openai-api-key", "redis-password", "oauth-client-secret"])
def test_a_new_value_of_a_secret_rolls_who_reads_it_and_nobody_else(secret: str) -> None:
    old = objects_of("production", data=MANAGED)
    versions = {**state().secrets, secret: "2"}
    new = objects_of("production", given=state(secrets=versions), data=MANAGED)
    before, after = pod_specs(old), pod_specs(new)
    rolled = {name for name in before if before[name] != after[name]}
    assert rolled == ({"oauth2-proxy"} if secret.startswith("oauth") else {"agents"})


def test_secrets_without_a_version_are_refused() -> None:
    versions = {name: "1" for name in state().secrets if name != "openai-api-key"}
    with pytest.raises(RenderError, match="agents-env: no version of openai-api-key"):
        objects_of("production", given=state(secrets=versions))


def test_switches_are_runtime_state_and_roll_nothing(plain: list[Manifest]) -> None:
    switches = {**state().switches, "AI_REALTIME_ENABLED": False}
    switched = objects_of("production", given=state(switches=switches), data=SELF_HOSTED)
    changed = [new for old, new in zip(plain, switched, strict=True) if old != new]
    (only,) = changed
    assert (only["kind"], only["metadata"]["name"]) == ("ConfigMap", "agents-switches")
    assert only["data"]["AI_REALTIME_ENABLED"] == "false"
    assert only["data"]["switches.env"].splitlines()[0] == "AI_REALTIME_ENABLED=false"
    assert len(only["data"]["switches.env"].splitlines()) == len(switches) == 6
    (container,) = pod_specs(plain)["agents"]["containers"]
    assert {item["name"] for item in container["env"]} == set(switches)
    environment = find(plain, "ConfigMap", "agents-env")["data"]
    mount = next(item for item in container["volumeMounts"] if item["name"] == "switches")
    # Mounted as a whole: a file by subPath would never change.
    assert "subPath" not in mount
    assert environment["SWITCHES_FILE"] == f"{mount['mountPath']}/switches.env"


@pytest.mark.parametrize(
    "change", [lambda known: known.pop("FEATURE_AGENT_CHAT"), lambda known: known.update(NEW=True)]
)
def test_other_switches_than_the_service_reads_are_refused(change: Callable[[dict[str, bool]], Any]) -> None:
    switches = dict(state().switches)
    change(switches)
    with pytest.raises(RenderError, match=r"switches: found .*; accepted: AI_REALTIME_ENABLED"):
        objects_of("production", given=state(switches=switches))


# --- pods


def test_pods_are_what_the_restricted_standard_asks_for(objects: list[Manifest]) -> None:
    assert len(containers(objects)) == len(pod_specs(objects)) + 1
    for name, spec in pod_specs(objects).items():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] >= 10001, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume} - {"name"}
        assert kinds <= {"configMap", "secret", "emptyDir"}, name
        assert spec["enableServiceLinks"] is False, name
    for name, container in containers(objects):
        security = container["securityContext"]
        assert security == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        }, name
        assert "@sha256:" in container["image"], name
        resources = container["resources"]
        assert resources.keys() == {"requests", "limits"}, name
        assert all(resources[kind].keys() == {"cpu", "memory"} for kind in resources), name


def test_low_ports_are_opened_by_a_safe_sysctl_for_those_that_have_one(plain: list[Manifest]) -> None:
    with_sysctl = {
        name: spec["securityContext"]["sysctls"]
        for name, spec in pod_specs(plain).items()
        if "sysctls" in spec["securityContext"]
    }
    assert with_sysctl == {"traefik": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]}


def test_release_runs_by_its_digest(plain: list[Manifest]) -> None:
    released = {name for name, container in containers(plain) if DIGEST in container["image"]}
    assert released == {"agents", "migrate"}


def test_probes_have_three_meanings(plain: list[Manifest]) -> None:
    (agents,) = pod_specs(plain)["agents"]["containers"]
    startup, readiness, liveness = (agents[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    assert (startup["httpGet"]["path"], readiness["httpGet"]["path"]) == ("/health", "/health/ready")
    assert liveness["httpGet"] == startup["httpGet"]
    assert liveness["periodSeconds"] > readiness["periodSeconds"]
    with_probes = {name for name, container in containers(plain) if "readinessProbe" in container}
    assert with_probes == pod_specs(plain).keys() - {"migrate"}


@pytest.mark.parametrize("interval", [0.5, 1, 1.5, 10])
def test_probes_have_whole_seconds_and_no_less_patience(interval: float) -> None:
    probe = Probe(HttpProbe("/", 8000), interval, 0.9, 7)
    (container,) = pod_specs(rendered(health=Health(readiness=probe)))["web"]["containers"]
    made = container["readinessProbe"]
    assert (made["periodSeconds"], made["timeoutSeconds"]) == (math.ceil(interval), 1)
    assert made["periodSeconds"] * made["failureThreshold"] >= interval * 7
    assert isinstance(made["failureThreshold"], int)


def test_replicated_pods_drain_before_they_are_told_to_stop(objects: list[Manifest]) -> None:
    for name, spec in pod_specs(objects).items():
        container = spec["containers"][0]
        if name in REPLICATED:
            seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert seconds >= 10
            assert spec["terminationGracePeriodSeconds"] > seconds
        else:
            assert "lifecycle" not in container
    agents = pod_specs(objects)["agents"]
    assert agents["terminationGracePeriodSeconds"] == 10 + 40


def test_commands_reach_the_container_as_they_are(plain: list[Manifest]) -> None:
    (container,) = pod_specs(plain)["redis"]["containers"]
    script = container["readinessProbe"]["exec"]["command"][-1]
    assert script.startswith('[ "$$(REDISCLI_AUTH=$$(<')
    assert "$" not in script.replace("$$", "")


def test_files_of_secrets_are_their_users_only(plain: list[Manifest]) -> None:
    volumes = {volume["name"]: volume for volume in pod_specs(plain)["postgres"]["volumes"]}
    assert volumes["secret-files"]["secret"]["defaultMode"] == 0o440
    mounts = pod_specs(plain)["postgres"]["containers"][0]["volumeMounts"]
    paths = {mount["mountPath"] for mount in mounts if mount["name"] == "secret-files"}
    assert paths == {f"/run/secrets/postgres-{role}-password" for role in ("superuser", "owner", "app")}


def test_agents_wait_for_the_schema_of_their_release(objects: list[Manifest]) -> None:
    spec = pod_specs(objects)["agents"]
    (wait,) = spec["initContainers"]
    assert (wait["name"], wait["args"]) == ("wait-for-migrate", ["check-schema"])
    agents = spec["containers"][0]
    for key in ("image", "envFrom", "env", "volumeMounts"):
        assert wait[key] == agents[key]
    assert not [
        name for name, other in pod_specs(objects).items() if name != "agents" and "initContainers" in other
    ]


# --- workloads


def test_deployments_leave_replicas_to_the_autoscaler(objects: list[Manifest]) -> None:
    deployments = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Deployment"}
    expected = REPLICATED - (set() if any(i["kind"] == "Middleware" for i in objects) else {"traefik"})
    assert deployments.keys() == expected
    for name, item in deployments.items():
        assert "replicas" not in item["spec"], name
        assert item["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        namespace = item["metadata"]["namespace"]
        scaler = find(objects, "HorizontalPodAutoscaler", name, namespace)["spec"]
        assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert scaler["minReplicas"] >= 2
        budget = find(objects, "PodDisruptionBudget", name, namespace)["spec"]
        assert budget["maxUnavailable"] == 1
        selector = item["spec"]["selector"]
        assert budget["selector"] == selector
        assert selector["matchLabels"] == item["spec"]["template"]["metadata"]["labels"]
        spread = item["spec"]["template"]["spec"]["topologySpreadConstraints"]
        keys = [constraint["topologyKey"] for constraint in spread]
        assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert all(constraint["labelSelector"] == selector for constraint in spread)
    kinds = Counter(item["kind"] for item in objects)
    assert kinds["HorizontalPodAutoscaler"] == kinds["PodDisruptionBudget"] == len(deployments)


def test_autoscaler_has_the_limits_of_the_settings() -> None:
    scaling = {"minimum": 3, "maximum": 9, "cpu_percent": 55}
    made = find(objects_of("production", scaling=scaling), "HorizontalPodAutoscaler", "agents")["spec"]
    assert (made["minReplicas"], made["maxReplicas"]) == (3, 9)
    (metric,) = made["metrics"]
    assert metric["resource"] == {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 55},
    }


def test_data_are_stateful_sets_where_they_are_ours(plain: list[Manifest]) -> None:
    stateful = {item["metadata"]["name"]: item["spec"] for item in plain if item["kind"] == "StatefulSet"}
    assert stateful.keys() == {"postgres", "redis", "otel-collector", "prometheus"}
    for name, spec in stateful.items():
        assert spec["replicas"] == 1
        find(plain, "Service", spec["serviceName"])
        (claim,) = spec["volumeClaimTemplates"]
        mounts = [mount["name"] for mount in spec["template"]["spec"]["containers"][0]["volumeMounts"]]
        assert claim["metadata"]["name"] in mounts, name
        assert "storageClassName" not in claim["spec"]
        assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    classed = objects_of("production", data=SELF_HOSTED, storage_class="fast")
    (claim,) = find(classed, "StatefulSet", "postgres")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"


def test_managed_data_are_reached_by_verified_tls() -> None:
    objects = objects_of("production", data=MANAGED)
    assert not pod_specs(objects).keys() & {"postgres", "redis"}
    environment = find(objects, "ConfigMap", "agents-env")["data"]
    assert {name: environment[name] for name in environment if name.startswith(("DATABASE", "PGSSL"))} == {
        "DATABASE_HOST": "postgres.example.com",
        "DATABASE_PORT": "25060",
        "DATABASE_NAME": "a",
        "DATABASE_USER": "b",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "system",
    }
    migrate = find(objects, "ConfigMap", "migrate-env")["data"]
    assert (migrate["DATABASE_OWNER_USER"], migrate["PGSSLMODE"]) == ("c", "verify-full")
    redis = find(objects, "Secret", "agents-env")["stringData"]["REDIS_URL"]
    assert redis == "rediss://:${secret:redis-password}@redis.example.com:25061/0"
    trusting = objects_of("local", data=MANAGED)
    for name in ("agents", "migrate"):
        root = find(trusting, "ConfigMap", f"{name}-env")["data"]["PGSSLROOTCERT"]
        mounts = pod_specs(trusting)[name]["containers"][0]["volumeMounts"]
        assert root in {mount["mountPath"] for mount in mounts}


def test_migrations_are_a_job_of_their_release(plain: list[Manifest]) -> None:
    job = find(plain, "Job", "migrate")
    spec = job["spec"]["template"]["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["containers"][0]["args"] == ["migrate"]
    assert job["spec"]["activeDeadlineSeconds"] > 0
    other = objects_of(
        "production", given=state(release=f"ghcr.io/icupa/agents-service@sha256:{'3' * 64}"), data=SELF_HOSTED
    )
    assert find(other, "Job", "migrate")["metadata"]["name"] != job["metadata"]["name"]


def test_services_select_their_pods_by_ports_that_they_have(objects: list[Manifest]) -> None:
    specs = pod_specs(objects)
    found = [item for item in objects if item["kind"] == "Service"]
    assert len(found) == 2 * (len(specs) - 1)
    for item in found:
        name = item["spec"]["selector"]["app.kubernetes.io/name"]
        ports = {port["containerPort"] for port in specs[name]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in item["spec"]["ports"]} <= ports
        if item["metadata"]["name"].endswith("-replicas"):
            assert item["spec"]["clusterIP"] == "None"
    public = [item for item in found if item["spec"].get("type") == "LoadBalancer"]
    assert [item["metadata"]["name"] for item in public] == ["traefik"] * ("traefik" in specs)
    for item in public:
        assert [port["port"] for port in item["spec"]["ports"]] == [80, 443]
        assert item["spec"]["externalTrafficPolicy"] == "Local"


# --- network


def allowed(objects: list[Manifest]) -> set[tuple[str, str, int]]:
    """(from, to, port) between services that both ends' policies let through."""
    specs = {
        item["metadata"]["labels"]["app.kubernetes.io/name"]: item["spec"]
        for item in objects
        if item["kind"] == "NetworkPolicy" and "app.kubernetes.io/name" in item["metadata"]["labels"]
    }

    def pairs(name: str, direction: str, peer: str) -> set[tuple[str, int]]:
        return {
            (source["podSelector"]["matchLabels"]["app.kubernetes.io/name"], port["port"])
            for rule in specs[name].get(direction, [])
            for source in rule.get(peer, [])
            if "podSelector" in source
            for port in rule["ports"]
        }

    sent = {(name, *pair) for name in specs for pair in pairs(name, "egress", "to")}
    taken = {(caller, name, port) for name in specs for caller, port in pairs(name, "ingress", "from")}
    assert sent == taken
    return sent


def test_nobody_talks_to_anybody_who_is_not_named(objects: list[Manifest]) -> None:
    for namespace in (AGENTS, AUTH):
        deny = find(objects, "NetworkPolicy", "default-deny", namespace)["spec"]
        assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        dns = find(objects, "NetworkPolicy", "dns", namespace)["spec"]
        assert {port["port"] for rule in dns["egress"] for port in rule["ports"]} == {53}
    policies = {item["metadata"]["name"] for item in objects if item["kind"] == "NetworkPolicy"}
    assert policies == {*pod_specs(objects), "default-deny", "dns"}


def test_every_call_that_a_service_makes_is_let_through() -> None:
    flows = allowed(objects_of("production", data=SELF_HOSTED))
    assert {(caller, called) for caller, called, _ in flows} == {
        ("traefik", "agents"),
        ("traefik", "oauth2-proxy"),
        ("traefik", "maintenance"),
        ("agents", "postgres"),
        ("agents", "redis"),
        ("agents", "otel-collector"),
        ("migrate", "postgres"),
        ("prometheus", "agents"),
        ("prometheus", "traefik"),
        ("prometheus", "oauth2-proxy"),
        ("prometheus", "otel-collector"),
    }
    assert ("traefik", "agents", names.AGENTS_PORT) in flows
    assert ("prometheus", "oauth2-proxy", names.OAUTH2_PROXY_METRICS_PORT) in flows


def test_the_way_out_leads_to_no_pod_and_no_metadata(objects: list[Manifest]) -> None:
    outside = {}
    for item in objects:
        if item["kind"] == "NetworkPolicy":
            for rule in item["spec"].get("egress", []):
                for peer in rule["to"]:
                    if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                        outside[item["metadata"]["name"]] = peer["ipBlock"]["except"]
    ours = {"traefik"} & pod_specs(objects).keys()
    databases = set() if "postgres" in pod_specs(objects) else {"migrate"}
    expected = {"agents", "oauth2-proxy", "otel-collector", "prometheus", "maintenance"} | ours | databases
    assert outside.keys() == expected
    assert all(blocks == ["169.254.0.0/16", "10.110.0.0/16"] for blocks in outside.values())


def test_only_the_edge_is_open_to_everybody(objects: list[Manifest]) -> None:
    for item in objects:
        if item["kind"] == "NetworkPolicy":
            for rule in item["spec"].get("ingress", []):
                if "from" not in rule:
                    assert item["metadata"]["name"] == "traefik"
                    assert [port["port"] for port in rule["ports"]] == [80, 443]


# --- edge


def test_ingress_has_the_annotations_of_the_runbook(plain: list[Manifest]) -> None:
    ingress = find(plain, "Ingress", "agents")
    prefix = "traefik.ingress.kubernetes.io/router"
    annotations = ingress["metadata"]["annotations"]
    assert annotations[f"{prefix}.entrypoints"] == "websecure"
    assert annotations[f"{prefix}.tls"] == "true"
    assert annotations[f"{prefix}.middlewares"].split(",")[-1] == "auth-forward@kubernetescrd"
    assert find(plain, "Middleware", "forward")["metadata"]["namespace"] == "auth"
    certificate = find(plain, "Certificate", "agents")["spec"]
    (tls,) = ingress["spec"]["tls"]
    assert tls == {"hosts": certificate["dnsNames"], "secretName": certificate["secretName"]}
    assert certificate["dnsNames"] == ["agents.icupa.dev", "ams3.agents.icupa.dev"]
    assert ingress["spec"]["ingressClassName"] == find(plain, "IngressClass", "traefik")["metadata"]["name"]


def test_every_route_goes_through_middlewares_that_exist(plain: list[Manifest]) -> None:
    made = {item["metadata"]["name"] for item in plain if item["kind"] == "Middleware"}
    routes: dict[str, tuple[int, list[str]]] = {}
    for item in plain:
        if item["kind"] == "Ingress":
            annotations = item["metadata"]["annotations"]
            prefix = "traefik.ingress.kubernetes.io/router"
            used = annotations[f"{prefix}.middlewares"].split(",")
            assert all(re.fullmatch(r"auth-[a-z-]+@kubernetescrd", name) for name in used)
            short = [name.removeprefix("auth-").removesuffix("@kubernetescrd") for name in used]
            routes[item["metadata"]["name"]] = (int(annotations[f"{prefix}.priority"]), short)
        elif item["kind"] == "IngressRoute":
            (route,) = item["spec"]["routes"]
            assert {middleware["namespace"] for middleware in route["middlewares"]} == {"auth"}
            short = [middleware["name"] for middleware in route["middlewares"]]
            routes[item["metadata"]["name"]] = (route["priority"], short)
    common = ["security-headers", "strip-identity"]
    assert routes == {
        "webhook": (400, [*common, "webhook-rate"]),
        "login": (300, common),
        "api-credentials": (200, [*common, "forward-program"]),
        "agents": (100, [*common, "forward"]),
    }
    assert {name for _, used in routes.values() for name in used} == made


def test_routes_lead_to_services_of_their_namespace(objects: list[Manifest]) -> None:
    services = {
        (item["metadata"]["namespace"], item["metadata"]["name"]): {
            port["port"] for port in item["spec"]["ports"]
        }
        for item in objects
        if item["kind"] == "Service"
    }
    backends = 0
    for item in objects:
        namespace = item["metadata"].get("namespace")
        if item["kind"] == "Ingress":
            for rule in item["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    target = path["backend"]["service"]
                    assert target["port"]["number"] in services[namespace, target["name"]]
                    backends += 1
    assert backends >= 6


def test_maintenance_goes_before_everything_but_health() -> None:
    objects = objects_of("production", given=state(maintenance=True))
    (route,) = find(objects, "IngressRoute", "maintenance")["spec"]["routes"]
    assert route["priority"] > 400
    assert "!Path(`/health`)" in route["match"]
    assert route["services"] == [{"name": "maintenance", "port": 8090}]
    assert not [
        i
        for i in objects_of("production")
        if i["metadata"]["name"] == "maintenance" and i["kind"] == "IngressRoute"
    ]


def test_nginx_asks_the_same_login() -> None:
    objects = objects_of("production", ingress=NGINX)
    prefix = "nginx.ingress.kubernetes.io"
    assert not {item["kind"] for item in objects} & {"Middleware", "IngressRoute", "TLSOption", "ClusterRole"}
    browser = find(objects, "Ingress", "agents")["metadata"]["annotations"]
    login = "oauth2-proxy.auth.svc.cluster.local:4180"
    assert browser[f"{prefix}/auth-url"] == f"http://{login}/oauth2/auth"
    assert browser[f"{prefix}/auth-response-headers"] == "Authorization"
    assert f"{prefix}/auth-signin" in browser
    program = find(objects, "Ingress", "api")
    assert f"{prefix}/auth-signin" not in program["metadata"]["annotations"]
    paths = [path["path"] for path in program["spec"]["rules"][0]["http"]["paths"]]
    assert paths == ["/api", "/health", "/metrics"]
    webhook = find(objects, "Ingress", "webhook")
    assert f"{prefix}/auth-url" not in webhook["metadata"]["annotations"]
    assert webhook["spec"]["rules"][0]["http"]["paths"][0]["pathType"] == "Exact"
    callers = find(objects, "NetworkPolicy", "agents")["spec"]["ingress"][0]["from"]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}} in callers
    down = objects_of("production", given=state(maintenance=True), ingress=NGINX)
    backend = find(down, "Ingress", "agents")["spec"]["rules"][0]["http"]["paths"][0]["backend"]
    assert backend["service"]["name"] == "maintenance"
    paths = find(down, "Ingress", "api")["spec"]["rules"][0]["http"]["paths"]
    assert [(path["path"], path["backend"]["service"]["name"]) for path in paths] == [("/health", "agents")]


@pytest.mark.parametrize(
    ("stack", "solver", "secret"),
    [
        ("production", "cloudflare", "${secret:cloudflare-challenge-token}"),
        ("local", "rfc2136", "${secret:tsig-acme}"),
    ],
)
def test_certificates_come_by_dns_through_the_challenge_zone(stack: str, solver: str, secret: str) -> None:
    objects = objects_of(stack)
    acme = find(objects, "Issuer", "letsencrypt")["spec"]["acme"]
    (way,) = acme["solvers"]
    assert way["dns01"].keys() == {"cnameStrategy", solver}
    assert way["dns01"]["cnameStrategy"] == "Follow"
    key = "apiTokenSecretRef" if solver == "cloudflare" else "tsigSecretSecretRef"
    reference = way["dns01"][solver][key]
    held = find(objects, "Secret", "cert-manager-dns")
    assert held["metadata"]["name"] == reference["name"]
    assert held["stringData"][reference["key"]] == secret
    assert ("caBundle" in acme) == (stack == "local")
    issuer = find(objects, "Certificate", "agents")["spec"]["issuerRef"]
    assert (issuer["kind"], issuer["name"]) == ("Issuer", "letsencrypt")


def test_proxy_reads_its_own_two_namespaces_only(plain: list[Manifest]) -> None:
    rules = [rule for item in plain if item["kind"] == "ClusterRole" for rule in item["rules"]]
    assert {resource for rule in rules for resource in rule["resources"]} == {"nodes", "ingressclasses"}
    roles = [item for item in plain if item["kind"] == "Role"]
    assert {item["metadata"]["namespace"] for item in roles} == {AGENTS, AUTH}
    verbs = {verb for item in (*roles, {"rules": rules}) for rule in item["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch", "update"}
    for item in plain:
        if item["kind"] in {"RoleBinding", "ClusterRoleBinding"}:
            (subject,) = item["subjects"]
            assert (subject["name"], subject["namespace"]) == ("traefik", AGENTS)


# --- what is refused


def service(**changes: Any) -> Service:
    base = Service("web", "web", 10100, (Network.EDGE,), Resources(cpus=1, memory_mib=64))
    return replace(base, **changes)


def rendered(*others: Service, given: ClusterState | None = None, **changes: Any) -> list[Manifest]:
    """Objects of one plain service, changed, and of others."""
    context = context_of("production")
    services = replace(
        topology(context),
        services=(service(**changes), *others),
        project_file=EnvironmentFile(".env", {"KNOWN": "1"}),
    )
    return render_alone(services, given or state(images={"web": f"web@sha256:{'0' * 64}"}))


def render_alone(services: Topology, given: ClusterState) -> list[Manifest]:
    context = context_of("production")
    assert context.stack.kubernetes is not None
    cluster = Cluster(services, context.platform, context.stack.kubernetes, given)
    return render_services(cluster, context.stack.registry)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown image": ({"image": "nginx"}, "web has no image nginx; accepted: web"),
    "unknown dependency": ({"dependencies": (Dependency("db"),)}, "web depends on db; accepted: web"),
    "unknown directory": (
        {"directories": (Directory("x", "/x"),)},
        "web: found directory x; accepted: switches",
    ),
    "unknown variable": ({"project_variables": ("OTHER",)}, "web: no variable OTHER; accepted: KNOWN"),
    "capability": (
        {"capabilities": ("SYS_ADMIN",)},
        "web: found capabilities SYS_ADMIN; accepted: NET_BIND_SERVICE",
    ),
    "volumes of replicas": (
        {"replicated": True, "volumes": (Volume("data", "/data"),)},
        "web is replicated and has volumes; accepted: one of them",
    ),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_definitions_that_can_not_be_rendered_are_refused(changes: dict[str, Any], said: str) -> None:
    assert rendered()
    with pytest.raises(RenderError, match=re.escape(said)):
        rendered(**changes)


def test_waiting_for_a_job_without_a_check_is_refused() -> None:
    job = service(name="job", job=True)
    waiting = (Dependency("job", Condition.COMPLETED),)
    with pytest.raises(RenderError, match="web waits for job, which has no check"):
        rendered(job, dependencies=waiting)
    assert rendered(replace(job, check=("check",)), dependencies=waiting)


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(RenderError, match="same name"):
        rendered(service())


@pytest.mark.parametrize("image", ["web:latest", "web", "web@sha256:12"])
def test_images_that_are_not_pinned_are_refused(image: str) -> None:
    with pytest.raises(RenderError, match=r"image web: found .*; accepted: <repository>@sha256:<digest>"):
        rendered(given=state(images={"web": image}))
    with pytest.raises(RenderError, match="image release: found"):
        rendered(given=state(release=image, images={"web": f"web@sha256:{'0' * 64}"}))


def test_a_stack_without_clusters_is_refused() -> None:
    stack = load_file("production").model_copy(update={"kubernetes": None})
    said = r"Pulumi.production.yaml: icupa:kubernetes: found nothing; accepted: a mapping with clusters, data"
    with pytest.raises(RenderError, match=said):
        clusters("production", stack)
    cluster = clusters("production", load_file("production"))[0]
    with pytest.raises(RenderError, match=said):
        cluster_context("production", stack, cluster, ())


def test_a_service_that_is_no_replica_has_one() -> None:
    item = find(rendered(), "Deployment", "web")
    assert item["spec"]["replicas"] == 1
    assert not [other for other in rendered() if other["kind"] == "HorizontalPodAutoscaler"]


# --- property names


def test_names_that_the_sdk_does_not_know_are_refused(plain: list[Manifest]) -> None:
    changes: dict[str, tuple[str, Callable[[Manifest], Any]]] = {
        "Deployment/agents: specs: unknown": ("Deployment", lambda item: item.update(specs={})),
        "Deployment/agents.spec.template.spec.containers[0]: livenesProbe: unknown": (
            "Deployment",
            lambda item: item["spec"]["template"]["spec"]["containers"][0].update(livenesProbe={}),
        ),
        "Deployment/agents.spec.revisionHistoryLimit: found str; accepted: int": (
            "Deployment",
            lambda item: item["spec"].update(revisionHistoryLimit="5"),
        ),
        "apps/v1 has no Deploymant": ("Deployment", lambda item: item.update(kind="Deploymant")),
        "ConfigMapPatch/agents-switches.kind: found str; accepted: ConfigMap": (
            "ConfigMap",
            lambda item: item.update(kind="ConfigMapPatch"),
        ),
        "Middleware/forward: data: unknown": ("Middleware", lambda item: item.update(data={})),
        "apps/v7 has no Deployment": ("Deployment", lambda item: item.update(apiVersion="apps/v7")),
    }
    named = {"Deployment": "agents", "Middleware": "forward", "ConfigMap": "agents-switches"}
    for said, (kind, change) in changes.items():
        broken = json.loads(json.dumps(find(plain, kind, named[kind])))
        check([broken])
        change(broken)
        with pytest.raises(RenderError, match=re.escape(said)):
            check([broken])


def test_text_is_yaml_without_aliases(plain: list[Manifest]) -> None:
    text = as_yaml(plain)
    assert list(yaml.safe_load_all(text)) == plain
    shared = ["a"]
    assert as_yaml([{"one": shared, "other": shared, "text": "a\nb\n"}]) == (
        "---\none:\n- a\nother:\n- a\ntext: |\n  a\n  b\n"
    )
