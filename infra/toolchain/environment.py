"""Environment variables under which Pulumi, Ansible and the project's own commands run.

Standard library only: it is read before the virtual environment exists.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from infra import paths

LOCAL = "local"
BUILDER = "icupa"
"""Buildx builder that the toolchain sets up for `local`; elsewhere Docker's default one builds."""


def variables(inherited: Mapping[str, str], stack: str | None = None) -> dict[str, str]:
    """Return the variables to set on top of `inherited`; PATH gets each of the project's directories once.

    Logins to registries are those of `stack`; by default of the one that ICUPA_STACK names, else of `local`.
    """
    own = [str(paths.virtual_environment() / "bin"), str(paths.tools_bin())]
    rest = [part for part in inherited.get("PATH", os.defpath).split(os.pathsep) if part and part not in own]
    docker = paths.docker_config(stack or inherited.get(paths.STACK_ENV) or LOCAL)
    return {
        "PATH": os.pathsep.join([*own, *rest]),
        "VIRTUAL_ENV": str(paths.virtual_environment()),
        "PYTHONPATH": str(paths.REPOSITORY),
        # The one that Pulumi.yaml names; Pulumi takes `~` there from the user database, not from HOME.
        "PULUMI_BACKEND_URL": inherited.get("PULUMI_BACKEND_URL", paths.pulumi_backend().as_uri()),
        "PULUMI_HOME": str(paths.pulumi_home()),
        # Nothing secret is ever in state: references only.
        "PULUMI_CONFIG_PASSPHRASE": inherited.get("PULUMI_CONFIG_PASSPHRASE", ""),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # A plugin that is missing is an error at once instead of five attempts to download it.
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "DOCKER_CONFIG": str(docker),
        "BUILDX_CONFIG": str(docker / "buildx"),
        "ANSIBLE_CONFIG": str(paths.REPOSITORY / "ansible" / "ansible.cfg"),
        "SOPS_DISABLE_VERSION_CHECK": "true",
    }


def exports(inherited: Mapping[str, str]) -> str:
    """Return `variables` as shell text for `env.sh`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables(inherited).items())
