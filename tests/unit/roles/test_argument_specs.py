"""Every role documents its variables: defaults and argument_specs say the same (all roles, found by glob)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.roles.modules import REPOSITORY

ROLES = sorted(path.parent for path in (REPOSITORY / "roles").glob("*/tasks"))
LEAST_ROLES = 6
NAMES = [role.name for role in ROLES]


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {} if path.is_file() else {}


def options(role: Path) -> dict[str, Any]:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return dict(specs["main"].get("options", {}))


def test_the_roles_are_found() -> None:
    assert len(ROLES) >= LEAST_ROLES, NAMES


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_every_default_is_documented_with_its_value(role: Path) -> None:
    documented = options(role)
    defaults = load(role / "defaults" / "main.yml")
    undocumented = sorted(set(defaults) - set(documented))
    assert undocumented == []
    for name, value in defaults.items():
        if isinstance(value, str) and "{{" in value:
            continue
        assert documented[name].get("default") == value, f"{role.name}: default of {name}"


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_every_option_has_a_default_or_is_required(role: Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    for name, option in options(role).items():
        assert name.startswith(f"{role.name}_") or name.startswith("icupa_"), name
        assert option.get("description"), f"{name} has no description"
        if name.startswith("icupa_"):
            continue
        assert option.get("required", False) != (name in defaults), (
            f"{role.name}: {name} must be either required or have a default"
        )


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_every_role_has_what_a_role_needs(role: Path) -> None:
    needed = ["README.md", "meta/main.yml", "meta/argument_specs.yml", "molecule/default/molecule.yml"]
    assert [name for name in needed if not (role / name).is_file()] == []
    platforms = {entry["name"] for entry in load(role / "meta" / "main.yml")["galaxy_info"]["platforms"]}
    assert platforms == {"Debian", "Ubuntu"}
