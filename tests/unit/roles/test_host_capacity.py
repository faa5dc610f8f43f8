from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.roles.modules import load_module

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_module("host_capacity")


def proc(tmp_path: Path, cgroup: str, mounts: list[str]) -> Path:
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text("\n".join(mounts) + "\n")
    return tmp_path


def mount(path: Path, kind: str, options: str) -> str:
    return f"31 30 0:27 / {path} rw,nosuid shared:9 - {kind} {kind} {options}"


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content + "\n")


def test_version_1_takes_the_lowest_limit_of_all_ancestors(module: ModuleType, tmp_path: Path) -> None:
    memory, cpu = tmp_path / "memory", tmp_path / "cpu,cpuacct"
    write(memory, memory__limit_in_bytes=str(3000 * MIB))
    write(memory / "system.slice" / "ssh.service", memory__limit_in_bytes="9223372036854771712")
    write(cpu, cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    write(cpu / "user.slice", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    home = proc(
        tmp_path,
        "4:cpu,cpuacct:/user.slice\n3:memory:/system.slice/ssh.service\n1:name=systemd:/\n0::/\n",
        [mount(memory, "cgroup", "rw,memory"), mount(cpu, "cgroup", "rw,cpu,cpuacct")],
    )
    assert module.memory_limit(module.control_group("memory", home)) == 3000 * MIB
    assert module.cpu_quota(module.control_group("cpu", home)) == 1.5


def test_version_2_takes_the_lowest_limit_of_all_ancestors(module: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "unified"
    write(root, cgroup__controllers="cpu memory pids", memory__max="max", cpu__max="max 100000")
    write(root / "a", memory__max=str(2048 * MIB), cpu__max="100000 100000")
    write(root / "a" / "b", memory__max="max", cpu__max="300000 100000")
    home = proc(tmp_path, "0::/a/b\n", [mount(root, "cgroup2", "rw")])
    assert module.memory_limit(module.control_group("memory", home)) == 2048 * MIB
    assert module.cpu_quota(module.control_group("cpu", home)) == 1.0


def test_hybrid_prefers_the_hierarchy_that_manages_the_controller(module: ModuleType, tmp_path: Path) -> None:
    memory, unified = tmp_path / "memory", tmp_path / "unified"
    write(memory, memory__limit_in_bytes=str(4096 * MIB))
    write(unified, cgroup__controllers="")
    home = proc(
        tmp_path,
        "3:memory:/\n0::/\n",
        [mount(unified, "cgroup2", "rw"), mount(memory, "cgroup", "rw,memory")],
    )
    group = module.control_group("memory", home)
    assert (group.version, module.memory_limit(group)) == (1, 4096 * MIB)
    assert module.control_group("cpu", home) is None


def test_no_limit_is_none(module: ModuleType, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    write(memory, memory__limit_in_bytes="9223372036854771712")
    home = proc(tmp_path, "3:memory:/\n", [mount(memory, "cgroup", "rw,memory")])
    assert module.memory_limit(module.control_group("memory", home)) is None
    assert module.memory_limit(None) is None
    assert module.cpu_quota(None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\n', "ubuntu 24.04"),
        ('ID=debian\nVERSION_ID="12"\nVERSION="12 (bookworm)"\n', "debian 12"),
        ("ID=arch\n", "arch unknown"),
    ],
)
def test_operating_system(module: ModuleType, tmp_path: Path, text: str, expected: str) -> None:
    release = tmp_path / "os-release"
    release.write_text(text)
    assert module.operating_system(release) == expected


def test_capacity_of_this_host(module: ModuleType) -> None:
    found = module.capacity(["/", "/does/not/exist/yet"])
    assert found["cpu_affinity"] == len(os.sched_getaffinity(0))
    assert 0 < found["cpus"] <= found["cpu_affinity"]
    assert 0 < found["memory"] <= found["memory_total"]
    assert found["disk_free"]["/"] == pytest.approx(found["disk_free"]["/does/not/exist/yet"], rel=0.05)
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


FINE: dict[str, Any] = {
    "cpus": 2,
    "cpu_affinity": 4,
    "cpu_quota": 2.0,
    "memory": 3900 * MIB,
    "memory_total": 8000 * MIB,
    "memory_limit": 3900 * MIB,
    "disk_free": {"/opt": 2000 * MIB},
    "operating_system": "debian 13",
    "systemd": True,
    "python": "3.13.5",
}
WANTED: dict[str, Any] = {
    "cpus": 2.0,
    "memory_mib": 3750,
    "disk_free_mib": {"/opt": 1024},
    "operating_systems": ["debian 12", "debian 13"],
    "python": "3.11",
}


def test_enough_is_no_problem(module: ModuleType) -> None:
    assert module.problems(FINE, WANTED) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cpus": 1, "cpu_affinity": 1, "cpu_quota": None}, "1 usable CPUs (affinity 1, quota none)"),
        ({"cpus": 1.5, "cpu_quota": 1.5}, "1.5 usable CPUs (affinity 4, quota 1.5)"),
        ({"memory": 2048 * MIB, "memory_limit": 2048 * MIB}, "control group's limit 2048 MiB"),
        ({"disk_free": {"/opt": 1023 * MIB}}, "1023 MiB free at /opt; at least 1024 MiB"),
        ({"operating_system": "ubuntu 22.04"}, "ubuntu 22.04; supported are debian 12, debian 13"),
        ({"systemd": False}, "systemd is not running"),
        ({"python": "3.9.2"}, "Python is 3.9.2; at least 3.11"),
    ],
)
def test_each_lack_is_said(module: ModuleType, change: dict[str, Any], message: str) -> None:
    said = module.problems(FINE | change, WANTED)
    assert len(said) == 1
    assert message in said[0]


def test_all_lacks_are_said_at_once(module: ModuleType) -> None:
    worst = FINE | {"cpus": 1, "memory": MIB, "systemd": False, "operating_system": "x 1", "python": "3.8.1"}
    assert len(module.problems(worst, WANTED)) == 5
