"""The project's Pulumi plugins: which there are, and the executable that Pulumi starts.

`python -m infra.providers.plugins <name> <engine address>` serves one; `write_executable` writes what
`pulumi plugin install resource <name> <version> --file <archive>` installs.
"""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name

from infra import paths
from infra.providers.cloud import PreviewProvider
from infra.providers.server import Provider, serve

OWN: dict[str, str] = {"icupa": "0.1.0"}
"""Our own plugins, always installed: name and version."""

STAND_INS: dict[str, str] = {
    name: version(f"pulumi-{name}") for name in ("docker", "digitalocean", "cloudflare")
}
"""Plugins installed where the official one can't be: name and version, which is that of the SDK."""

_EXECUTABLE = """\
#!/bin/sh
# Pulumi plugin {name} {version}. Serves the checkout that Pulumi works in, else the one that installed it.
repository={repository}
[ -f infra/providers/plugins.py ] && repository=$PWD
interpreter={interpreter}
[ -x "$interpreter" ] || interpreter=python3
PYTHONPATH="$repository" exec "$interpreter" -m infra.providers.plugins {name} "$@"
"""


def executable_name(name: str) -> str:
    """Return the file name under which Pulumi looks for a plugin's executable."""
    return f"pulumi-resource-{name}"


def write_executable(name: str, path: Path) -> None:
    """Write the executable of plugin `name`; run it with the Python that has the SDKs.

    Raises:
        KeyError: if there is no such plugin.
    """
    plugin_version = {**OWN, **STAND_INS}[name]
    path.write_text(
        _EXECUTABLE.format(
            name=name,
            version=plugin_version,
            repository=shlex.quote(str(paths.REPOSITORY)),
            interpreter=shlex.quote(sys.executable),
        )
    )
    path.chmod(0o755)


# Only the plugin that is served is imported: a plugin's start counts in every `up`.
_PROVIDERS = {
    "docker": "infra.providers.docker:DockerProvider",
    "icupa": "infra.providers.icupa:IcupaProvider",
}


def _provider(name: str) -> Provider:
    if name in _PROVIDERS:
        made: Provider = resolve_name(_PROVIDERS[name])()
        return made
    return PreviewProvider(name, STAND_INS[name])


def main(arguments: list[str]) -> int:
    """Serve the plugin that the first argument names."""
    versions = {**OWN, **STAND_INS}
    if not arguments or arguments[0] not in versions:
        sys.stderr.write(f"usage: python -m infra.providers.plugins {{{','.join(versions)}}} ENGINE\n")
        return 2
    serve(_provider(arguments[0]), versions[arguments[0]])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
