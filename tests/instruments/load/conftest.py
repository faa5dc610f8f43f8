from __future__ import annotations

from pathlib import Path

import pytest

from tests.instruments.load.double import Double, make_double


@pytest.fixture
def double(tmp_path: Path) -> Double:
    """A service of its own for each test; it listens when it is told to."""
    return make_double(tmp_path)
