"""The table says of each tool what, which version and from where."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console

from infra.toolchain.pins import load_all
from infra.toolchain.plugins import Installed, Origin, Plugin
from infra.toolchain.resolve import Source, Tool
from infra.toolchain.table import show


def test_each_source_is_told() -> None:
    pins = load_all()
    tools = [
        Tool(pins["pulumi"], "3.260.0", Source.PATH, {"pulumi": Path("/opt/bin/pulumi")}),
        Tool(pins["sops"], "3.12.2", Source.CACHE, {"sops": Path("/c/sops")}),
        Tool(pins["traefik"], "3.7.15", Source.PYPI, {"traefik": Path("/c/traefik")}),
        Tool(pins["buildkitd"], "0.31.0", Source.BUILT, {"buildkitd": Path("/c/buildkitd")}),
    ]
    out = StringIO()
    plugins = [Installed(Plugin("docker", "5.2.0"), Origin.STAND_IN)]
    show(tools, [("docker engine", "20.10.24", "running")], plugins, Console(file=out, width=100))
    rows = {
        cells[0]: tuple(cells[1:])
        for line in out.getvalue().splitlines()
        if line.startswith("│") and (cells := [cell.strip() for cell in line.strip("│").split("│")])
    }
    assert rows.pop("python")[1].startswith("PATH: /")
    assert rows == {
        "pulumi": ("3.260.0", "PATH: /opt/bin/pulumi"),
        "sops": ("3.12.2", "cache (built from Go modules)"),
        "traefik": ("3.7.15", "PyPI, now"),
        "buildkitd": ("0.31.0", "built now"),
        "docker engine": ("20.10.24", "running"),
        "plugin docker": ("5.2.0", "stand-in"),
    }
