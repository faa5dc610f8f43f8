"""Rooms of `infra/` import only from rooms below them: the list of docs/architecture.md, "Layers"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.paths import REPOSITORY

PACKAGE = "infra"


def layers(page: str) -> list[list[str]]:
    """Rooms of each line of the list, the ground last."""
    found = re.search(r"^### Layers\n.*?^```\n(.*?)^```\n", page, re.DOTALL | re.MULTILINE)
    assert found, "docs/architecture.md has no list of layers"
    return [line.split() for line in found[1].splitlines()]


def modules(tree: Path) -> dict[str, list[Path]]:
    """Files of each room below the package of a tree: a directory, or a module of its own."""
    rooms: dict[str, list[Path]] = {}
    package = tree / PACKAGE
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        if parts != ("__init__",):
            rooms.setdefault(parts[0], []).append(file)
    return rooms


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def faults(tree: Path, order: list[list[str]]) -> tuple[list[str], int]:
    """Every import that goes up or sideways or out of the package, and how many rooms were read."""
    height = {room: level for level, line in enumerate(reversed(order)) for room in line}
    rooms = modules(tree)
    wrong = []
    for room in sorted(rooms.keys() ^ height.keys()):
        wrong.append(f"{room}: {'no such room' if room in height else 'not among the layers'}")
    for room in rooms.keys() & height.keys():
        for file in rooms[room]:
            for line, name in imported(file):
                top, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                where = f"{file.relative_to(tree)}:{line}"
                if top in {"ansible", "roles", "tests", "images", "reference"}:
                    wrong.append(f"{where}: {name} is outside {PACKAGE}")
                elif top == PACKAGE and other in height and other != room and height[other] >= height[room]:
                    wrong.append(f"{where}: {room} imports {other}, which is not below it")
    return wrong, len(rooms.keys() & height.keys())


def test_rooms_import_from_below_only() -> None:
    order = layers((REPOSITORY / "docs" / "architecture.md").read_text())
    named = [room for line in order for room in line]
    assert len(named) == len(set(named)), "a room stands twice"
    wrong, read = faults(REPOSITORY, order)
    assert not wrong, "\n".join(wrong)
    assert read == len(named) >= len(list((REPOSITORY / PACKAGE).glob("*/__init__.py")))


@pytest.mark.parametrize(
    ("room", "text", "said"),
    [
        ("low", "from infra import high", "low imports high, which is not below it"),
        ("low", "import infra.high.part", "low imports high, which is not below it"),
        ("low", "def f():\n    from infra.high import thing", "low imports high, which is not below it"),
        ("beside", "from infra.high import thing", "beside imports high, which is not below it"),
        ("high", "from tests import lint", "tests.lint is outside infra"),
        ("new", "", "new: not among the layers"),
    ],
)
def test_what_goes_another_way_is_found(tmp_path: Path, room: str, text: str, said: str) -> None:
    for name, content in {"low": "", "high": "from infra.low import thing", "beside": "", room: text}.items():
        file = tmp_path / PACKAGE / name / "__init__.py"
        file.parent.mkdir(parents=True)
        file.write_text(content)
    wrong, read = faults(tmp_path, [["high", "beside"], ["low"]])
    assert read == 3
    assert len(wrong) == 1
    assert wrong[0].endswith(said)


def test_a_room_that_is_gone_is_found(tmp_path: Path) -> None:
    assert faults(tmp_path, [["gone"]]) == (["gone: no such room"], 0)
