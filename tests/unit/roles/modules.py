"""Loads our Ansible modules by path: their directory is called `ansible` too."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[3]


def load_module(name: str) -> ModuleType:
    """Load `ansible/plugins/modules/<name>.py`."""
    path = REPOSITORY / "ansible" / "plugins" / "modules" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"icupa_modules_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
