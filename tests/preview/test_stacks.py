"""`pulumi preview` of every stack: needs nothing, reads no secret, counts and shows what changes."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from infra.config.load import stack_names
from infra.secrets.references import find
from tests.preview.conftest import Preview, Pulumi

STASH = "pulumi:index:Stash"
IMAGE = "docker-build:index:Image"
DEPLOYED = {"agents-service", "traefik", "oauth2-proxy", "otel-collector", "postgres", "redis", "prometheus"}


# The longest one: it begins first, beside all others.
def test_changed_variable_is_one_change_and_is_shown(runtime_only: Pulumi) -> None:
    stack = "production"
    made = runtime_only.run(stack, "up", "--yes", "--skip-preview")
    assert made.returncode == 0, made.stdout + made.stderr
    assert runtime_only.preview(stack).changes == {}

    def dearer(config: dict[str, Any]) -> None:
        config["icupa:variables"]["AGENT_DAILY_BUDGET_USD"] = 75

    preview = runtime_only.preview(stack, dearer)
    assert preview.changes == {"update": 1}
    (step,) = preview.steps
    assert step["newState"]["type"] == STASH
    for host in ("primary", "standby"):
        before, after = (
            step[state]["inputs"]["input"][host]["env_files"]["agents-service.env"]["AGENT_DAILY_BUDGET_USD"]
            for state in ("oldState", "newState")
        )
        assert (before, after) == ("50", "75")

    diff = runtime_only.run(stack, "preview", "--diff", change=dearer).stdout
    assert len(re.findall(r'AGENT_DAILY_BUDGET_USD +: "50" => "75"', diff)) >= 2
    refused = runtime_only.run(stack, "preview", "--expect-no-changes", change=dearer)
    assert refused.returncode != 0
    assert "changes were proposed" in refused.stdout + refused.stderr

    changed = runtime_only.run(stack, "up", "--yes", "--skip-preview", change=dearer)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    projects = runtime_only.outputs(stack)["projects"]
    assert projects["standby"]["env_files"]["agents-service.env"]["AGENT_DAILY_BUDGET_USD"] == "75"
    assert runtime_only.preview(stack, dearer).changes == {}


# With `--dist loadgroup` each preview is made once, whatever the number of workers.
STACKS = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in stack_names()]


@pytest.fixture(scope="session", params=STACKS)
def preview(request: pytest.FixtureRequest, pulumi: Pulumi) -> Preview:
    return pulumi.preview(request.param)


def environment_of(preview: Preview) -> str:
    name: str = preview.document["steps"][0]["urn"].split("::")[0].removeprefix("urn:pulumi:")
    return name


def types(preview: Preview) -> Counter[str]:
    return Counter(step["newState"]["type"] for step in preview.document["steps"])


def test_everything_is_counted_as_new(preview: Preview) -> None:
    assert preview.changes == {"create": len(preview.document["steps"])}


def test_every_stack_has_the_same_images_and_one_runtime(preview: Preview) -> None:
    images = preview.inputs(IMAGE)
    assert set(images) >= DEPLOYED
    assert types(preview)[STASH] == 1
    tags = images["agents-service"]["tags"]
    commit = images["agents-service"]["buildArgs"]["GIT_SHA"]
    assert len(commit) == 40
    assert [tag.rpartition(":")[2] for tag in tags] == [commit, "latest"]
    assert {tag.rpartition("/")[2].rpartition(":")[0] for tag in tags} == {"agents-service"}
    (attested,) = preview.inputs("icupa:registry:ImageAttestation").values()
    assert attested["gitSha"] == commit


def test_projects_are_shown_with_references_only(preview: Preview) -> None:
    (stash,) = preview.inputs(STASH).values()
    projects: dict[str, Any] = stash["input"]
    assert set(projects) == {"primary", "standby"}
    for project in projects.values():
        variables = project["env_files"]["agents-service.env"]
        assert find(variables["OPENAI_API_KEY"]) == ("openai-api-key",)
        assert variables["AGENT_DAILY_BUDGET_USD"] == "50"


def test_hosts_and_records_are_those_of_the_driver(preview: Preview) -> None:
    found = types(preview)
    if environment_of(preview) == "local":
        containers = preview.inputs("docker:index/container:Container")
        assert {"primary", "standby"} <= set(containers)
        assert not any(token.startswith(("digitalocean:", "cloudflare:")) for token in found)
        return
    assert found["digitalocean:index/droplet:Droplet"] == 2
    assert found["digitalocean:index/reservedIp:ReservedIp"] == 2
    assert found["digitalocean:index/firewall:Firewall"] == 2
    assert found["cloudflare:index/dnsRecord:DnsRecord"] == 2 + 3
    for name, record in preview.inputs("cloudflare:index/dnsRecord:DnsRecord").items():
        assert record["proxied"] is False, name
    assert not any(token.startswith("docker:") for token in found)


def test_public_record_is_not_the_program_s(preview: Preview) -> None:
    for record in preview.inputs("cloudflare:index/dnsRecord:DnsRecord").values():
        domain = "agents.icupa.dev" if environment_of(preview) == "production" else "agents.staging.icupa.dev"
        assert (record["type"], record["name"]) != ("A", domain)


def test_machines_in_containers_are_not_privileged(preview: Preview) -> None:
    if environment_of(preview) != "local":
        return
    containers = preview.inputs("docker:index/container:Container")
    for name in ("primary", "standby"):
        machine = containers[name]
        assert "privileged" not in machine
        assert machine["cgroupnsMode"] == "private"
        assert machine["memory"] >= 4096
        assert {network["name"] for network in machine["networksAdvanced"]} >= {"icupa-local-internet"}


def test_first_boot_holds_no_secret_and_no_other_user(preview: Preview) -> None:
    for droplet in preview.inputs("digitalocean:index/droplet:Droplet").values():
        assert droplet["userData"].startswith("#cloud-config\n")
        assert "disable_root: true" in droplet["userData"]
        assert "ssh_pwauth: false" in droplet["userData"]
        assert "PRIVATE" not in droplet["userData"]
        assert droplet["image"] == "ubuntu-24-04-x64"


def test_lowest_time_to_live_is_told(preview: Preview) -> None:
    told = [text for text in preview.warnings if "accepts no less than 60 s" in text]
    assert len(told) == (0 if environment_of(preview) == "local" else 1)
    for record in preview.inputs("cloudflare:index/dnsRecord:DnsRecord").values():
        assert record["ttl"] >= 60


def test_nothing_reads_a_key_or_a_token(preview: Preview) -> None:
    text = json.dumps(preview.document)
    assert "PRIVATE KEY" not in text
    assert "sk-proj-" not in text


MALFORMED = {
    "missing variable": (
        lambda config: config["icupa:variables"].pop("SUPABASE_URL"),
        "icupa:variables.SUPABASE_URL: found nothing; accepted: an https URL",
    ),
    "secret in clear text": (
        lambda config: config["icupa:variables"].update({"OPENAI_API_KEY": "sk-proj-canary0123456789"}),
        "icupa:variables.OPENAI_API_KEY: found a value of 24 characters (not shown)",
    ),
    "unknown section": (
        lambda config: config.update({"icupa:domian": "x"}),
        "icupa:domian: found an unknown key (did you mean domain?)",
    ),
}


@pytest.mark.parametrize(("change", "said"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_configuration_touches_nothing(change: Any, said: str, pulumi: Pulumi) -> None:
    done = pulumi.run("production", "preview", change=change)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert said in output
    assert "stacks/Pulumi.production.yaml" in output
    assert "nothing was touched" in output
    assert "Traceback" not in output
    assert "canary" not in output
    assert "Droplet" not in output
