"""A rendered project of `local` and outputs around it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from infra.config.load import load_file
from infra.outputs.export import settings
from infra.runtimes.compose import render
from infra.services.context import Context
from infra.services.topology import topology
from infra.site.runtime import HostRuntime

PLUGINS = Path(__file__).resolve().parents[3] / "ansible" / "plugins"
DIGEST = f"sha256:{'1' * 64}"
OTHER_DIGEST = f"sha256:{'2' * 64}"
IMAGE = "registry.local.icupa.dev/icupa/agents-service"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKh6bLx6 root@machine"


def load_plugin(kind: str, name: str) -> ModuleType:
    """Load `ansible/plugins/<kind>/<name>.py`, whose directory has the name of Ansible's own package."""
    key = f"icupa_{kind}_{name}"
    if kind == "modules":
        for shared in sorted(file.stem for file in (PLUGINS / "module_utils").glob("*.py")):
            sys.modules[f"ansible.module_utils.{shared}"] = load_plugin("module_utils", shared)
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, PLUGINS / kind / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
    return sys.modules[key]


@pytest.fixture
def runtime() -> HostRuntime:
    images = {"blue": f"{IMAGE}@{DIGEST}", "green": f"{IMAGE}@{OTHER_DIGEST}"}
    switches = load_file("local").switches.as_environment()
    blue = {"active_slot": "blue", "running": ["blue"]}
    return HostRuntime.parse({**blue, "images": images, "switches": switches})


@pytest.fixture
def project() -> dict[str, Any]:
    stack = load_file("local")
    machine = stack.hosts.machines[0]
    services = topology(Context("local", stack, machine.region, machine.role, ("-----TRUST-----",)))
    return render(services, {name: f"registry/{name}@{DIGEST}" for name in services.images})


@pytest.fixture
def raw_outputs(tmp_path: Path, project: dict[str, Any]) -> dict[str, Any]:
    hosts = [
        {
            "name": name,
            "region": region,
            "role": role,
            "address": address,
            "user": "ops",
            "port": port,
            "host_key": HOST_KEY,
            "private_key_file": "~/.local/id_ed25519",
            "become": True,
        }
        for name, region, role, address, port in (
            ("primary", "primary", "primary", "10.80.0.20", 22),
            ("standby", "fra1", "standby", "10.80.0.30", 2222),
        )
    ]
    return {
        "environment": "test",
        "domain": "agents.local.icupa.dev",
        "hosts": hosts,
        "record": {"url": f"file://{tmp_path}/record"},
        "secretstore": {"driver": "sops"},
        "release": {"image": IMAGE, "digest": DIGEST, "git_sha": "abc1234"},
        "projects": {"primary": project, "standby": project},
        "settings": settings(load_file("local"), []),
        "urls": {},
    }
