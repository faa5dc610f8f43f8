"""A controller with the trial procedure of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from tests.controller import Controller, outputs

HERE = Path(__file__).resolve().parent
TRIAL = HERE / "trial.yml"
PLUGINS = {"ANSIBLE_ACTION_PLUGINS": f"{REPOSITORY}/ansible/plugins/action:{HERE}/action"}


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path, outputs({"url": f"file://{tmp_path}/record"}), PLUGINS)
    made.bootstrap()
    return made
