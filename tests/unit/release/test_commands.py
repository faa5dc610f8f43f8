"""Commands of the application: what is run with which definition, and what of it is secret."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from infra import paths
from infra.config.load import ConfigurationError, stack_file, validate
from infra.config.model import Commands
from infra.release.commands import READ_ONLY, Name, one_off, smoke_environment, summary
from infra.release.model import UNKNOWN, Checked
from infra.services.model import Slot
from reference.agents_service.__main__ import parse
from tests.unit.release.conftest import IMAGE

REFERENCE = f"{IMAGE}@sha256:{'a' * 64}"
CHECKED = Checked(
    image=IMAGE,
    digest=REFERENCE.partition("@")[2],
    git_sha="c" * 40,
    schema_revision="0001",
    verified="signature",
    local=True,
)
ARGUMENTS = {Name.FLAGS_SET: ("a.flag", "on"), Name.FLAGS_DISABLE: ("a.flag", "b.flag")}


def config(**more: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(stack_file("local").read_text())["config"]
    return {**loaded, **{f"icupa:{key}": value for key, value in more.items()}}


def test_every_command_has_a_key_in_the_stack_file() -> None:
    assert {name.value for name in Name} == set(Commands.model_fields)


@pytest.mark.parametrize("name", list(Name))
def test_the_service_understands_the_default_of_each(name: Name) -> None:
    wanted = one_off(name, Commands(), Slot.GREEN, REFERENCE, arguments=ARGUMENTS.get(name, ()))
    assert parse(wanted.command)[0] == wanted.command[0]


def test_a_stack_may_name_its_own() -> None:
    stack = validate(
        "local", config(commands={"smoke": ["pnpm", "--filter", "agents-service", "test:smoke"]})
    )
    wanted = one_off(Name.SMOKE, stack.commands, Slot.BLUE, REFERENCE)
    assert wanted.command == ("pnpm", "--filter", "agents-service", "test:smoke")
    assert stack.commands.migrate == ("migrate",)


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ({"smoke": []}, "commands.smoke"),
        ({"smoke": ["run", "$(id)"]}, "one word of a command"),
        ({"smok": ["smoke"]}, "commands.smok"),
    ],
)
def test_what_is_no_command_is_refused(commands: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        validate("local", config(commands=commands), paths.REPOSITORY / "stacks" / "Pulumi.local.yaml")


def test_turning_a_flag_off_ends_what_a_killed_rollout_is_still_turning_on() -> None:
    changing = {one_off(name, Commands(), Slot.BLUE, REFERENCE).container for name in ARGUMENTS}
    assert changing == {"icupa-flags"}
    assert one_off(Name.FLAGS_LIST, Commands(), Slot.BLUE, REFERENCE).container not in changing


def test_migrations_get_the_definition_of_the_owner() -> None:
    wanted = one_off(Name.MIGRATION_PLAN, Commands(), Slot.GREEN, REFERENCE)
    assert (wanted.service, wanted.profile, wanted.read_only) == ("migrate-green", "green", True)
    assert wanted.variables == {"AGENTS_IMAGE_GREEN": REFERENCE}
    assert wanted.container == "icupa-migration-plan"
    assert one_off(Name.SYNC_VECTOR_STORES, Commands(), Slot.BLUE, REFERENCE).service == "agents-blue"


def test_smoke_changes_something() -> None:
    assert Name.SMOKE not in READ_ONLY
    assert Name.MIGRATE not in READ_ONLY


def test_smoke_alone_is_run_in_the_slot_that_has_just_been_started() -> None:
    inside = [name for name in Name if one_off(name, Commands(), Slot.BLUE, REFERENCE).inside]
    assert inside == [Name.SMOKE]


def test_smoke_is_told_slot_and_commit_and_what_is_off() -> None:
    switches = {"FEATURE_AGENT_CHAT": "false"}
    assert smoke_environment(Slot.GREEN, CHECKED, switches) == {
        **switches,
        "AGENTS_URL": "http://agents-green:8080",
        "SMOKE_EXPECT_GIT_SHA": "c" * 40,
    }
    nameless = CHECKED.model_copy(update={"git_sha": UNKNOWN})
    assert list(smoke_environment(Slot.GREEN, nameless, {})) == ["AGENTS_URL"]


def test_secrets_are_not_shown() -> None:
    wanted = one_off(Name.SMOKE, Commands(), Slot.BLUE, REFERENCE, secrets={"SMOKE_TOKEN": "a-token"})
    assert "a-token" not in repr(wanted)
    assert wanted.module("/root", "/login", 5)["secrets"] == {"SMOKE_TOKEN": "a-token"}


def test_a_summary_is_short_and_ends_with_the_errors() -> None:
    said = summary("\n".join(f"line {number}" for number in range(100)), "x" * 500, lines=3)
    assert said == ["line 98", "line 99", "x" * 200]
