"""A dry run of the smoke checks: they write a voucher, so they are not run."""

from __future__ import annotations

from infra.paths import REPOSITORY
from tests.controller import Controller


def test_a_dry_run_asks_nobody(controller: Controller) -> None:
    done = controller.play(REPOSITORY / "ansible" / "playbooks" / "smoke.yml", "--check", "-v")
    assert done.returncode == 0, done.stdout
    assert "not run in check mode" in done.stdout
