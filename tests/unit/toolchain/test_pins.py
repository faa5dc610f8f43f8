"""Pins: what the folder holds is complete, and keys follow what is built."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from infra import paths
from infra.toolchain.errors import ToolchainError
from infra.toolchain.pins import Pin, load, load_all

PINS = load_all()


def copy(name: str, to: Path) -> Path:
    return Path(shutil.copytree(paths.toolchain_pins() / name, to / name))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", sorted(PINS))
def test_pin_is_complete(name: str) -> None:
    pin = PINS[name]
    assert pin.binaries
    if pin.go is not None:
        assert (pin.folder / "go.sum").stat().st_size > 0
        assert "\nmodule toolchain.local/" in f"\n{(pin.folder / 'go.mod').read_text()}"
    if pin.pypi is not None:
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in pin.pypi.hashes)
        assert pin.pypi.hashes


def test_the_version_told_is_the_version_built() -> None:
    wrong = {}
    checked = 0
    for name, pin in PINS.items():
        if pin.go is None or pin.go.package == ".":
            continue
        required = re.findall(
            r"^(?:require )?\s*(\S+/\S+) v(\S+)", (pin.folder / "go.mod").read_text(), re.MULTILINE
        )
        providing = [
            (path, version) for path, version in required if f"{pin.go.package}/".startswith(f"{path}/")
        ]
        _, built = max(providing, key=lambda entry: len(entry[0]))
        checked += 1
        if built != pin.version:
            wrong[name] = f"tool.toml {pin.version}, go.mod {built}"
    assert checked > 8
    assert wrong == {}


def test_every_go_module_is_built_by_the_oldest_go_that_fits() -> None:
    path = PINS["go"].path
    assert path is not None
    (oldest,) = (Version(part.version) for part in SpecifierSet(path.accepts) if part.operator == ">=")
    wanted = {
        name: Version(re.findall(r"^go (\S+)$", (pin.folder / "go.mod").read_text(), re.MULTILINE)[0])
        for name, pin in PINS.items()
        if pin.go is not None
    }
    assert len(wanted) > 5
    assert {name: version for name, version in wanted.items() if version > oldest} == {}


def test_what_goes_into_images_is_the_pinned_version_and_static() -> None:
    images = [pin for pin in PINS.values() if pin.image]
    assert {pin.name for pin in images} >= {"traefik", "oauth2-proxy", "otelcol"}
    assert all(pin.static for pin in images)


def test_same_pins_give_the_same_key_elsewhere(tmp_path: Path) -> None:
    assert load(copy("actionlint", tmp_path)).key == PINS["actionlint"].key


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tool.toml", 'version = "1.7.9"', 'version = "1.7.8"'),
        ("tool.toml", "actionlint.version", "actionlint.other"),
        ("go.mod", "go 1.26", "go 1.26.1"),
        ("go.sum", "h1:", "h1:A"),
    ],
)
def test_key_changes_with_what_is_built(tmp_path: Path, file: str, old: str, new: str) -> None:
    folder = copy("actionlint", tmp_path)
    edit(folder / file, old, new)
    assert load(folder).key != PINS["actionlint"].key


@pytest.mark.parametrize(
    ("old", "new"),
    [('groups = ["lint"]', 'groups = ["unit"]'), (">=1.7.9,<2", ">=1.7,<2"), ("# Lints", "# Checks")],
)
def test_key_stays_with_what_only_chooses(tmp_path: Path, old: str, new: str) -> None:
    folder = copy("actionlint", tmp_path)
    edit(folder / "tool.toml", old, new)
    assert load(folder).key == PINS["actionlint"].key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version = "1.7.9"', 'vresion = "1.7.9"', "vresion"),
        ('groups = ["lint"]', 'groups = ["everything"]', "groups.0"),
        ('accepts = ">=1.7.9,<2"', 'accepts = "about 2"', "accepts"),
        ('accepts = ">=1.7.9,<2"', 'beside = "pulumi"', "beside"),
        ("[go]", "[pypi]", "pypi"),
    ],
)
def test_wrong_pins_are_refused_by_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = copy("actionlint", tmp_path)
    edit(folder / "tool.toml", old, new)
    with pytest.raises(ToolchainError) as caught:
        load(folder)
    assert str(folder / "tool.toml") in str(caught.value)
    assert said in str(caught.value)


def test_a_folder_without_pins_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="holds no pins"):
        load_all(tmp_path)


def test_a_generator_without_pins_is_an_error(tmp_path: Path) -> None:
    copy("otelcol", tmp_path)
    with pytest.raises(ToolchainError, match="otelcol-builder"):
        load_all(tmp_path)


def test_otelcol_manifest_agrees_with_its_modules() -> None:
    pin: Pin = PINS["otelcol"]
    manifest = (pin.folder / "manifest.yaml").read_text()
    modules = (pin.folder / "go.mod").read_text()
    named = re.findall(r"gomod: (\S+ v\S+)", manifest)
    assert len(named) > 10
    assert [entry for entry in named if entry not in modules] == []
    assert f"version: {pin.version}" in manifest
