"""Runs part of the program against mocks and hands back what it registered.

Tests look at what was registered after everything has been awaited, and never assert inside an `apply`: one
that is not awaited would pass without having run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pytest
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

from tests.unit.mocked import run_program


@dataclass
class Registered(Mocks):
    """Resources by type token, then by name, with their inputs; and what was exported by the tested part."""

    resources: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    result: Any = None

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.resources.setdefault(args.typ, {})[args.name] = dict(args.inputs)
        made = {"ipAddress": "203.0.113.7", "fingerprint": "aa:bb", "digest": f"sha256:{args.name}"}
        return "1", {**made, **args.inputs}

    def call(self, args: MockCallArgs) -> Any:
        raise AssertionError(f"{args.token}: the program looks nothing up")


Program = Callable[[], Any]


@pytest.fixture
def run() -> Callable[..., Registered]:
    """Run a part of the program and await everything that it registered and returned."""

    def runner(program: Program, *, preview: bool = True, stack: str = "local") -> Registered:
        registered = Registered()

        def keep(value: Any) -> None:
            registered.result = value

        run_program(
            registered,
            lambda: pulumi.Output.from_input(program()).apply(keep),
            stack=stack,
            preview=preview,
        )
        return registered

    return runner
