"""Stack files: what is accepted, and what is said about what is not (CFG-1, CFG-2)."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.config.__main__ import main
from infra.config.load import ConfigurationError, load_file, load_runtime, stack_file, stack_names, validate
from infra.config.model import Role, Switches, Variables
from infra.secrets.catalogue import Channel

Config = dict[str, Any]
Change = Callable[[Config], object]


def config_of(stack: str) -> Config:
    document = yaml.safe_load(stack_file(stack).read_text())
    config: Config = document["config"]
    return config


def refusal(change: Change, stack: str = "production") -> ConfigurationError:
    config = copy.deepcopy(config_of(stack))
    change(config)
    with pytest.raises(ConfigurationError) as caught:
        validate(stack, config)
    return caught.value


def put(path: str, value: Any) -> Change:
    *parents, last = path.split(".")

    def change(config: Config) -> None:
        place: Any = config
        for part in (f"icupa:{parents[0]}", *parents[1:]) if parents else ():
            place = place[int(part)] if part.isdigit() else place[part]
        place[last if parents else f"icupa:{last}"] = value

    return change


def drop(path: str) -> Change:
    *parents, last = path.split(".")

    def change(config: Config) -> None:
        place: Any = config
        for part in (f"icupa:{parents[0]}", *parents[1:]) if parents else ():
            place = place[int(part)] if part.isdigit() else place[part]
        del place[last if parents else f"icupa:{last}"]

    return change


MALFORMED: dict[str, tuple[Change, str, str, str]] = {
    # name: (change, key, found, accepted)
    "missing variable": (
        drop("variables.SUPABASE_URL"),
        "icupa:variables.SUPABASE_URL",
        "nothing",
        "an https URL",
    ),
    "missing section": (drop("acme"), "icupa:acme", "nothing", "a mapping with directory, email"),
    "missing domain": (drop("domain"), "icupa:domain", "nothing", "a domain name"),
    "missing switch": (
        drop("switches.FEATURE_AGENT_CHAT"),
        "icupa:switches.FEATURE_AGENT_CHAT",
        "nothing",
        "true or false",
    ),
    "null variable": (
        put("variables.OPENAI_DEFAULT_MODEL", None),
        "icupa:variables.OPENAI_DEFAULT_MODEL",
        "nothing",
        "a model name",
    ),
    "unknown variable": (
        put("variables.OPENAI_DEFAULT_MODL", "gpt-4.1"),
        "icupa:variables.OPENAI_DEFAULT_MODL",
        "an unknown key (did you mean OPENAI_DEFAULT_MODEL?)",
        "OPENAI_API_KEY, OPENAI_BASE_URL",
    ),
    "unknown section": (
        put("domian", "x"),
        "icupa:domian",
        "an unknown key (did you mean domain?)",
        "domain",
    ),
    "unknown switch": (
        put("switches.FEATURE_AGENT_VIDEO", True),
        "icupa:switches.FEATURE_AGENT_VIDEO",
        "an unknown key",
        "FEATURE_AGENT_VOICE",
    ),
    "unknown standby variable": (
        put("standby_variables.SUPABASE", "https://x.example.com"),
        "icupa:standby_variables.SUPABASE",
        "an unknown key",
        "SUPABASE_URL",
    ),
    "unknown namespace": (
        lambda config: config.update({"icuap:domain": "x"}),
        "icuap:domain",
        "a key of another namespace",
        "icupa:<name>",
    ),
    "provider credentials": (
        lambda config: config.update({"digitalocean:token": "dop_v1_0123456789"}),
        "digitalocean:token",
        "a key of another namespace",
        "from the environment",
    ),
    "domain with scheme": (
        put("domain", "https://agents.icupa.dev"),
        "icupa:domain",
        '"https://agents.icupa.dev"',
        "a domain name",
    ),
    "domain outside the zone": (
        put("domain", "agents.example.com"),
        "icupa:domain",
        '"agents.example.com"',
        "a name below dns.zone, icupa.dev",
    ),
    "plain http": (
        put("variables.SUPABASE_URL", "http://icupa.supabase.co"),
        "icupa:variables.SUPABASE_URL",
        '"http://icupa.supabase.co"',
        "an https URL",
    ),
    "standby url": (
        put("standby_variables.SUPABASE_URL", "ftp://x"),
        "icupa:standby_variables.SUPABASE_URL",
        '"ftp://x"',
        "an https URL",
    ),
    "budget in words": (
        put("variables.AGENT_SESSION_BUDGET_USD", "three"),
        "icupa:variables.AGENT_SESSION_BUDGET_USD",
        '"three"',
        "an amount in USD",
    ),
    "budget with mills": (
        put("variables.AGENT_SESSION_BUDGET_USD", 0.755),
        "icupa:variables.AGENT_SESSION_BUDGET_USD",
        "0.755",
        "at most two decimals",
    ),
    "negative budget": (
        put("variables.AGENT_DAILY_BUDGET_USD", -1),
        "icupa:variables.AGENT_DAILY_BUDGET_USD",
        "-1",
        "above 0",
    ),
    "session above day": (
        put("variables.AGENT_SESSION_BUDGET_USD", 60),
        "icupa:variables.AGENT_SESSION_BUDGET_USD",
        '"60"',
        "at most AGENT_DAILY_BUDGET_USD, 50",
    ),
    "session above the standby's day": (
        put("standby_variables.AGENT_DAILY_BUDGET_USD", 0.5),
        "icupa:standby_variables.AGENT_SESSION_BUDGET_USD",
        '"0.75"',
        "at most AGENT_DAILY_BUDGET_USD, 0.5",
    ),
    "model name": (
        put("variables.OPENAI_LOW_COST_MODEL", "GPT 4"),
        "icupa:variables.OPENAI_LOW_COST_MODEL",
        '"GPT 4"',
        "a model name",
    ),
    "vector store": (
        put("variables.AGENTS_MENU_VECTOR_STORE_ID", "menu"),
        "icupa:variables.AGENTS_MENU_VECTOR_STORE_ID",
        '"menu"',
        "begins with vs_",
    ),
    "switch in words": (
        put("switches.FEATURE_AGENT_VOICE", "on"),
        "icupa:switches.FEATURE_AGENT_VOICE",
        '"on"',
        "true or false",
    ),
    "reference to nothing": (
        put("variables.OPENAI_API_KEY", "${secret:openai-key}"),
        "icupa:variables.OPENAI_API_KEY",
        '"${secret:openai-key}"',
        "openai-admin-key, openai-api-key",
    ),
    "driver of hosts": (
        put("hosts.driver", "aws"),
        "icupa:hosts.driver",
        '"aws"',
        "'docker', 'digitalocean', 'existing'",
    ),
    "driver of DNS": (put("dns.driver", "bind"), "icupa:dns.driver", '"bind"', "'rfc2136', 'cloudflare'"),
    "no driver": (drop("dns.driver"), "icupa:dns", "nothing", "driver"),
    "droplet too small": (
        put("hosts.machines.0.size", "s-1vcpu-2gb"),
        "icupa:hosts.machines[0].size",
        '"s-1vcpu-2gb"',
        "s-2vcpu-4gb, s-4vcpu-8gb",
    ),
    "two primaries": (
        put("hosts.machines.1.role", "primary"),
        "icupa:hosts.machines",
        '"roles primary, primary"',
        "one primary and one standby",
    ),
    "role": (
        put("hosts.machines.1.role", "secondary"),
        "icupa:hosts.machines[1].role",
        '"secondary"',
        "primary, standby",
    ),
    "one region twice": (
        put("hosts.machines.1.region", "ams3"),
        "icupa:hosts.machines",
        '"region ams3, ams3"',
        "a region of its own",
    ),
    "no machines": (put("hosts.machines", []), "icupa:hosts.machines", "an empty list", "one or more"),
    "operators' network": (
        put("hosts.operator_networks", ["203.0.113.7/24"]),
        "icupa:hosts.operator_networks[0]",
        '"203.0.113.7/24"',
        "an IPv4 network",
    ),
    "resolver": (
        put("resolvers", ["dns.example.com"]),
        "icupa:resolvers[0]",
        '"dns.example.com"',
        "IPv4 address",
    ),
    "time to live": (put("dns.ttl", "15s"), "icupa:dns.ttl", '"15s"', "a whole number of seconds"),
    "time to live 0": (put("dns.ttl", 0), "icupa:dns.ttl", "0", "1 to 86400"),
    "zone id": (put("dns.zone_id", "icupa"), "icupa:dns.zone_id", '"icupa"', "32 hexadecimal digits"),
    "challenge zone": (
        put("dns.challenge_zone", "icupa.dev"),
        "icupa:dns.challenge_zone",
        '"icupa.dev"',
        "another zone than dns.zone",
    ),
    "record": (put("record.url", "ftp://x/y"), "icupa:record.url", '"ftp://x/y"', "s3://<bucket>/<prefix>"),
    "region of a directory": (
        put("record.url", "file:///var/lib/icupa"),
        "icupa:record.region",
        '"eu-central-1"',
        "only with a url that starts with s3://",
    ),
    "no recipients": (
        drop("secretstore.recipients"),
        "icupa:secretstore.recipients",
        "nothing",
        "a list of one or more age public keys",
    ),
    "nobody among the recipients": (
        put("secretstore.recipients", []),
        "icupa:secretstore.recipients",
        "nothing",
        "a list of one or more age public keys",
    ),
    "no section of secrets": (
        drop("secretstore"),
        "icupa:secretstore.recipients",
        "nothing",
        "a list of one or more age public keys",
    ),
    "recipient": (
        put("secretstore.recipients", ["age1operator"]),
        "icupa:secretstore.recipients[0]",
        '"age1operator"',
        "an age public key",
    ),
    "store of secrets": (put("secretstore.driver", "vault"), "icupa:secretstore.driver", '"vault"', "sops"),
    "mapping where text is": (put("domain", {"name": "x"}), "icupa:domain", "a mapping", "a domain name"),
    "text where a mapping is": (
        put("login", "https://login.icupa.dev"),
        "icupa:login",
        '"https://login.icupa.dev"',
        "a mapping with issuer",
    ),
}

ROLLOUT = {
    "p95_seconds": (0, "a number of seconds above 0 and up to 600"),
    "error_rate": (2, "a share above 0 and up to 1, such as 0.02 for 2 %"),
    "guardrail_rate": (True, "a share above 0 and up to 1"),
    "minimum_turns": (0, "a whole number, 1 to 1000000"),
    "window_seconds": (30, "at least 4 times metrics.scrape_seconds, 60"),
}
MALFORMED |= {
    f"rollout {name}": (
        put("rollout", {name: value}),
        f"icupa:rollout.{name}",
        f'"{value}"' if name == "window_seconds" else str(value).lower(),
        accepted,
    )
    for name, (value, accepted) in ROLLOUT.items()
}
MALFORMED["scrapes too rare for the window"] = (
    lambda config: config.update(
        {"icupa:rollout": {"window_seconds": 100}, "icupa:metrics": {"scrape_seconds": 26}}
    ),
    "icupa:rollout.window_seconds",
    '"100"',
    "at least 4 times metrics.scrape_seconds, 104",
)


@pytest.mark.parametrize(("change", "key", "found", "accepted"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_value_is_refused_by_name(change: Change, key: str, found: str, accepted: str) -> None:
    error = refusal(change)
    said = [line for line in error.problems if line.startswith(f"{key}: ")]
    assert len(said) == 1, error.problems
    assert f"{key}: found {found}" in said[0]
    assert accepted in said[0].split("; accepted: ")[1]
    assert str(error).startswith("stacks/Pulumi.production.yaml: ")


CLEAR_TEXT: dict[str, Change] = {
    "key": put("variables.OPENAI_API_KEY", "sk-proj-canary0123456789"),
    "token among headers": put("variables.OTLP_EXPORTER_HEADERS", "Authorization=Bearer canary0123456789"),
    "service's own headers": put("variables.OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary0123456789"),
    "password": put("registry.password", "canary0123456789"),
    "key where a model is": put("variables.OPENAI_DEFAULT_MODEL", "sk-proj-canary0123456789!"),
    "url with password": put("variables.SUPABASE_URL", "https://me:canary0123456789@x.supabase.co"),
    "unknown key": put("variables.OPENAI_KEY", "canary0123456789"),
    "standby": put("standby_variables.SUPABASE_SERVICE_ROLE_KEY", "canary0123456789"),
}


@pytest.mark.parametrize("change", CLEAR_TEXT.values(), ids=CLEAR_TEXT)
def test_secret_in_clear_text_is_refused_and_never_repeated(change: Change) -> None:
    error = refusal(change)
    assert len(error.problems) == 1
    assert "canary" not in str(error)


def test_all_problems_are_in_one_message() -> None:
    changes = [
        put("variables.OPENAI_API_KEY", "sk-proj-0123456789"),
        drop("variables.SUPABASE_URL"),
        put("domain", "x"),
        put("hosts.machines.1.role", "primary"),
        put("switches.FEATURE_AGENT_CHAT", 1),
        put("surplus", 1),
    ]
    error = refusal(lambda config: [change(config) for change in changes])
    assert {line.split(": ")[0] for line in error.problems} == {
        "icupa:variables.OPENAI_API_KEY",
        "icupa:variables.SUPABASE_URL",
        "icupa:domain",
        "icupa:hosts.machines",
        "icupa:switches.FEATURE_AGENT_CHAT",
        "icupa:surplus",
    }
    assert len(error.problems) == len(changes)


def test_lines_are_named_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = stack_file("local").read_text()
    broken = text.replace("cpus: 2", "cpus: 1", 1).replace("ttl: 15", "ttl: soon")
    assert broken != text
    path = tmp_path / "Pulumi.local.yaml"
    path.write_text(broken)
    with pytest.raises(ConfigurationError) as caught:
        load_file("local", path)
    lines = broken.splitlines()
    found = [re.match(r"line (\d+): icupa:(\S+): ", problem) for problem in caught.value.problems]
    assert [match and match[2] for match in found] == ["hosts.machines[0].cpus", "dns.ttl"]
    numbers = [int(match[1]) for match in found if match]
    assert "cpus: 1" in lines[numbers[0] - 1]
    assert "ttl: soon" in lines[numbers[1] - 1]


@pytest.mark.parametrize("key", ["cpus", "memory_gb"])
def test_machine_below_two_cpus_or_four_gigabytes_is_refused(key: str) -> None:
    error = refusal(put(f"hosts.machines.0.{key}", 1), "local")
    assert len(error.problems) == 1
    assert f"icupa:hosts.machines[0].{key}: found 1; accepted: a whole number" in error.problems[0]
    assert "at least" in error.problems[0]


def test_machine_in_a_container_must_have_a_place() -> None:
    error = refusal(put("hosts.machines.1.region", "fra2"), "local")
    assert error.problems == (
        'icupa:hosts.machines[1]: found "standby in region fra2"; accepted: with driver docker: '
        "primary in region primary or standby in region fra1",
    )


@pytest.mark.parametrize("stack", ["local", "staging", "production"])
def test_stack_is_accepted(stack: str) -> None:
    loaded = load_file(stack)
    assert {machine.role for machine in loaded.hosts.machines} == set(Role)
    assert set(Variables.model_fields) >= {
        "OPENAI_API_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "SUPABASE_URL",
        "AGENTS_MENU_VECTOR_STORE_ID",
        "AGENTS_ALLERGENS_VECTOR_STORE_ID",
        "AGENTS_POLICIES_VECTOR_STORE_ID",
        "AGENT_SESSION_BUDGET_USD",
        "AGENT_DAILY_BUDGET_USD",
        "OPENAI_DEFAULT_MODEL",
        "OPENAI_LOW_COST_MODEL",
        "OPENAI_FAILOVER_MODEL",
        "OPENAI_RESPONSES_MODEL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_SERVICE_NAME",
        "OTLP_EXPORTER_ENDPOINT",
        "OTLP_EXPORTER_HEADERS",
    }


def test_every_stack_is_tested() -> None:
    assert stack_names() == ["local", "production", "staging"]


def test_defaults_are_those_of_the_sources() -> None:
    config = config_of("production")
    for name in ("AGENT_SESSION_BUDGET_USD", "AGENT_DAILY_BUDGET_USD", "OTEL_SERVICE_NAME"):
        del config["icupa:variables"][name]
    del config["icupa:variables"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    variables = validate("production", config).variables
    budgets = variables.AGENT_SESSION_BUDGET_USD, variables.AGENT_DAILY_BUDGET_USD
    assert budgets == (Decimal("0.75"), Decimal("50"))
    assert variables.OTEL_SERVICE_NAME == "icupa-agents-service"
    assert variables.OTEL_EXPORTER_OTLP_ENDPOINT == "http://otel-collector:4318"


def test_the_gates_defaults_are_those_of_the_sources() -> None:
    config = config_of("production")
    config.pop("icupa:rollout", None)
    rollout = validate("production", config).rollout
    assert (rollout.p95_seconds, rollout.error_rate) == (5, 0.02)
    assert rollout.window_seconds >= 1800


def test_standby_has_its_own_variables_and_else_the_primary_ones() -> None:
    stack = load_file("production")
    primary, standby = stack.variables_for(Role.PRIMARY), stack.variables_for(Role.STANDBY)
    assert primary.SUPABASE_URL != standby.SUPABASE_URL
    assert primary.model_copy(update={"SUPABASE_URL": standby.SUPABASE_URL}) == standby


def test_switches_are_words_for_the_service() -> None:
    names = dict.fromkeys(Switches.model_fields, True)
    switches = Switches.model_validate({**names, "FEATURE_AGENT_VOICE": False})
    assert switches.as_environment()["FEATURE_AGENT_VOICE"] == "false"
    assert switches.as_environment()["AI_REALTIME_ENABLED"] == "true"
    assert len(switches.as_environment()) == 6


def test_runtime_values_are_strings_and_json() -> None:
    config = config_of("production")
    handed = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    assert load_runtime("production", handed) == load_file("production")


def test_encrypted_value_is_refused_without_being_shown() -> None:
    config = {"icupa:domain": "canary.example.com"}
    with pytest.raises(ConfigurationError, match="encrypted in the stack file") as caught:
        load_runtime("production", config, ["icupa:domain"])
    assert "canary" not in str(caught.value)


def test_missing_file_lists_the_stacks() -> None:
    with pytest.raises(ConfigurationError, match="accepted: one of local, production, staging"):
        load_file("prod")


@pytest.mark.parametrize(
    ("text", "said"),
    [("config: [", "text that is not YAML"), ("", "no mapping"), ("config: 3", "no mapping")],
)
def test_file_that_is_no_configuration(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "Pulumi.local.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load_file("local", path)


def test_command_accepts_all_stacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out.count("accepted") == 3


def test_command_fails_for_a_refused_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--stack", "prod"]) == 1
    assert "stacks/Pulumi.prod.yaml" in capsys.readouterr().err


def test_a_webhook_in_clear_text_is_refused_and_not_shown() -> None:
    url = "https://hooks.slack.example/services/T0/B0/secret"
    error = refusal(put("notifications.ops_ai", url))
    assert "icupa:notifications.ops_ai: found a value of" in str(error)
    assert "a reference ${secret:<name>}" in str(error)
    assert url not in str(error)


def test_every_channel_has_a_webhook_of_its_own() -> None:
    notifications = load_file("production").notifications
    references = [notifications.webhook(channel) for channel in Channel]
    assert references == [f"${{secret:slack-webhook-{channel}}}" for channel in Channel]
    assert "notifications.status: found nothing" in str(refusal(drop("notifications.status")))


def test_a_supabase_project_is_named_as_in_its_url() -> None:
    error = str(refusal(put("supabase.projects", ["https://x.supabase.co"])))
    assert "icupa:supabase.projects[0]" in error
    assert "the reference of a Supabase project" in error
