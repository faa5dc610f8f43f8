"""A misspelled variable of any playbook is refused before its first task, in the procedures' own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from infra.procedures.options import PLAYBOOKS
from tests.controller import Controller

FOLDER = REPOSITORY / "ansible" / "playbooks"


def files(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_misspelled_variable_is_refused(controller: Controller, playbook: str) -> None:
    before = files(controller.home / "record")
    done = controller.play(FOLDER / f"{playbook}.yml", "-e", "relase=abc1234")
    assert done.returncode == 2, done.stdout
    said = " ".join(done.stdout.split())
    assert f"{playbook}: REFUSED message " in said
    assert "relase is no variable of it" in said
    assert "nothing was changed" in said
    assert "TASK [" not in said
    assert files(controller.home / "record") == before


@pytest.mark.parametrize(
    ("playbook", "wants"),
    [
        ("deploy", "name a release"),
        ("maintenance", "name either mode=on|off|cancel or at="),
        ("rollout", "name a flag"),
        ("switch", "name what to set in one way"),
    ],
)
def test_what_is_missing_is_asked_for_in_the_block(controller: Controller, playbook: str, wants: str) -> None:
    before = files(controller.home / "record")
    done = controller.play(FOLDER / f"{playbook}.yml")
    assert done.returncode == 2, done.stdout
    block = " ".join(done.stdout.rpartition(f"{playbook}: REFUSED")[2].split())
    assert wants in block
    assert "nothing was changed" in block
    assert files(controller.home / "record") == before


@pytest.mark.parametrize(("playbook", "option"), [("switch", "preset=p0"), ("smoke", "region=primary")])
def test_a_limit_does_not_pass_for_success(controller: Controller, playbook: str, option: str) -> None:
    before = files(controller.home / "record")
    done = controller.play(FOLDER / f"{playbook}.yml", "-e", option, "--limit", "primary")
    assert done.returncode == 2, done.stdout
    assert f"{playbook}.yml is always for all hosts" in done.stdout
    assert files(controller.home / "record") == before


def test_variables_of_roles_and_of_connections_are_taken(controller: Controller) -> None:
    done = controller.play(
        FOLDER / "lighthouse.yml", "--check", "-e", "backup_keep=3", "-e", "ansible_ssh_retries=0"
    )
    assert done.returncode == 0, done.stdout
