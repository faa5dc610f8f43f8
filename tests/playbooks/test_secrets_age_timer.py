"""The units that run the check every day: written, understood by systemd, and started."""

from __future__ import annotations

import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from tests.controller import STACK, Controller, outputs

PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "secrets_age_timer.yml"
UNIT = f"icupa-secrets-age-{STACK}"
# The manager of this machine is not ours to change: what it is told goes to a file.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$HOME/systemctl"
case "$1" in
show) echo LoadState=loaded; echo ActiveState=inactive; echo UnitFileState=disabled ;;
is-enabled) exit 1 ;;
esac
"""


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path, outputs({"url": f"file://{tmp_path}/record"}))
    made.bootstrap()
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    made.environment["PATH"] = f"{program.parent}:{made.environment['PATH']}"
    (tmp_path / "units").mkdir()
    return made


def install(controller: Controller, *options: str) -> subprocess.CompletedProcess[str]:
    return controller.play(PLAYBOOK, "-e", f"units={controller.home}/units", *options)


def settings(unit: Path) -> RawConfigParser:
    parsed = RawConfigParser()
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit.read_text())
    return parsed


def test_the_timer_runs_the_check_every_day_and_catches_up(controller: Controller) -> None:
    file = controller.home / "icupa_secrets.prom"
    done = install(controller, "-e", "run_as=root", "-e", f"metrics_file={file}")
    assert done.returncode == 0, done.stdout
    units = [controller.home / "units" / f"{UNIT}.{kind}" for kind in ("service", "timer")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    service, timer = map(settings, units)
    assert service["Service"]["WorkingDirectory"] == str(REPOSITORY)
    command = service["Service"]["ExecStart"]
    for part in ("playbooks/secrets_age.yml", f"-e stack={STACK}", f"-e metrics_file={file}", "-e wait="):
        assert part in command
    assert timer["Timer"]["Persistent"] == "true"
    told = (controller.home / "systemctl").read_text().splitlines()
    assert "daemon-reload" in told
    assert f"enable {UNIT}.timer" in told
    assert f"start {UNIT}.timer" in told


def test_a_dry_run_writes_no_unit_and_starts_nothing(controller: Controller) -> None:
    done = install(controller, "-e", "run_as=root", "-e", "metrics_file=/x.prom", "--check")
    assert done.returncode == 0, done.stdout
    assert list((controller.home / "units").iterdir()) == []
    told = (controller.home / "systemctl").read_text().splitlines()
    assert not [line for line in told if line.split()[0] in ("start", "enable", "daemon-reload")]


@pytest.mark.parametrize(
    ("given", "missing"), [("run_as=root", "metrics_file"), ("metrics_file=/x", "run_as")]
)
def test_without_a_user_or_a_file_nothing_is_written(
    controller: Controller, given: str, missing: str
) -> None:
    done = install(controller, "-e", given)
    assert done.returncode != 0
    assert f"name a {missing}: -e {missing}=" in " ".join(done.stdout.split())
    assert list((controller.home / "units").iterdir()) == []
