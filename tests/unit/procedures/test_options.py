"""Which extra variables a playbook takes, and that the table says what playbooks and pages say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from infra.paths import REPOSITORY
from infra.procedures.operation import ProcedureError
from infra.procedures.options import PLAYBOOKS, check

FOLDER = REPOSITORY / "ansible" / "playbooks"
PARTS = {"release"}
"""Playbooks that others import."""
FRAME = {"stack", "why", "wait", "take_from"}
"""Read by the inventory and by the action `operation`, for every procedure."""


def roles() -> set[str]:
    return {"release_start_seconds"}


@pytest.mark.parametrize(
    ("playbook", "given"),
    [
        ("rollback", {"stack": "local", "release": "abc1234", "incident": "https://x/?a=b", "why": "wrong"}),
        ("rollout", {"flag": "ai_waiter.v2.enabled", "window": "60"}),
        ("deploy", {"release": "latest", "release_start_seconds": "12", "ansible_ssh_retries": 0}),
        ("deploy", {"release": "latest", "accept_unhealthy": "true", "refresh_vector_stores": False}),
        ("maintenance", {"mode": True, "watch_minutes": "0.1", "watch_error_rate": 0.05}),
        ("switch", {"set": '{"FEATURE_AGENT_CHAT":', "_raw_params": "false}"}),
    ],
)
def test_what_a_playbook_reads_is_accepted(playbook: str, given: dict[str, Any]) -> None:
    check(playbook, given, roles)


@pytest.mark.parametrize(
    ("playbook", "given", "said"),
    [
        ("rollback", {"relase": "abc"}, "relase is no variable of it, did you mean release?"),
        ("rollback", {"relase": "abc"}, "rollback.yml takes: allow_contract, incident, "),
        ("backup", {"backup_kep": "3"}, "backup_kep is no variable of it"),
        ("smoke", {"why": "x"}, "why is no variable of it"),
        ("deploy", {}, "name a release: -e release="),
        ("rollout", {"window": "60"}, "name a flag: -e flag="),
        ("rollback", {"release": ""}, "release is empty"),
        ("rollback", {"release": None}, "release is empty"),
        ("deploy", {"accept_unhealthy": "maybe"}, "accept_unhealthy: found 'maybe'; accepted: true or false"),
        ("maintenance", {"watch_minutes": "ten"}, "watch_minutes: found 'ten'; accepted: a number"),
        ("maintenance", {"watch_minutes": True}, "watch_minutes: found True"),
        ("maintenance", {"watch_error_rate": "nan"}, "watch_error_rate: found 'nan'"),
        ("deploy", {"why": "INC-42:", "_raw_params": "wrong prices"}, "'wrong prices' stands behind a space"),
    ],
)
def test_what_would_be_passed_over_or_misread_is_refused(
    playbook: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProcedureError, match=re.escape(said)):
        check(playbook, given, roles)


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ProcedureError, match=r"relase .*; incidnt "):
        check("rollback", {"relase": "a", "incidnt": "b"}, roles)


def test_a_limit_that_would_leave_out_the_controller_is_refused() -> None:
    with pytest.raises(ProcedureError, match="always for all hosts: leave out --limit primary"):
        check("switch", {"preset": "p0"}, roles, limit="primary")
    check("site", {}, roles, limit="primary")


def test_every_playbook_is_in_the_table() -> None:
    assert {file.stem for file in FOLDER.glob("*.yml")} - PARTS == set(PLAYBOOKS)


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_reads_each_of_its_options(playbook: str) -> None:
    text = read(FOLDER / f"{playbook}.yml")
    unread = {option.name for option in PLAYBOOKS[playbook]} - FRAME - set(re.findall(r"\w+", text))
    assert not unread


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_reads_nothing_that_is_no_option(playbook: str) -> None:
    optional = re.findall(
        r"(?<!\.)\b(\w+) (?:\| default\(|is (?:not )?defined)", read(FOLDER / f"{playbook}.yml")
    )
    own = {name for name in optional if not name.startswith(("_", "icupa_", "release_"))}
    assert own - {"msg", "groups", "withdraw"} <= {option.name for option in PLAYBOOKS[playbook]}


def test_every_option_is_on_a_page() -> None:
    pages = "".join(file.read_text() for file in (REPOSITORY / "docs" / "procedures").glob("*.md"))
    options = {option.name for each in PLAYBOOKS.values() for option in each}
    assert {name for name in options if not re.search(rf"-e ['{{\"]*{name}\b", pages)} == set()


def read(file: Path) -> str:
    """A playbook without comments, with what it imports."""
    text = "\n".join(line for line in file.read_text().splitlines() if not line.strip().startswith("#"))
    parts = re.findall(r"(?:import_playbook|import_tasks|include_tasks): (\S+\.yml)", text)
    return text + "".join(read(file.parent / part) for part in parts)
