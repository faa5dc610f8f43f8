"""Fixtures of the role's verification."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.molecule.machine import Machine
from tests.molecule.outside import Outside, beside


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    with beside("icupa-molecule-hardening") as container:
        yield container


@pytest.fixture
def machine(host: Host) -> Machine:
    return Machine.of(host)


@pytest.fixture(scope="session")
def operator_key() -> Path:
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "operator"
