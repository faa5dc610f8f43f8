"""Pytest plugin of the roles' verification: a failure shows the machine's journal."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.molecule.machine import Machine

LINES = 60


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Add the last lines of the journal to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and host is not None:
        # Through the engine, since SSH may be what failed.
        done = Machine.of(host).run("journalctl", "--no-pager", f"--lines={LINES}")
        report.sections.append(("journal", done.output))
