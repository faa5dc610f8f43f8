"""Inventory plugin `stack`: the outputs of a Pulumi stack are the inventory; see DOCUMENTATION."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError

from ansible.plugins.inventory import BaseInventoryPlugin
from infra.outputs.model import HostOutput, StackError, StackOutputs
from infra.outputs.read import read_outputs
from infra.paths import stack_home
from infra.site.runtime import RuntimeStateError, read_runtimes

DOCUMENTATION = """
name: stack
short_description: Hosts of a stack, from its outputs and the environment's record
description:
  - Reads C(pulumi stack output) and the record; writes a known_hosts file with the pinned host keys.
options:
  plugin:
    description: Name of this plugin.
    required: true
    choices: [stack]
  stack:
    description: Name of the stack; the extra variable C(stack) comes first.
    type: str
    env: [{name: ICUPA_STACK}]
  outputs_file:
    description: JSON file to read instead of asking Pulumi.
    type: path
    env: [{name: ICUPA_OUTPUTS_FILE}]
author: ICUPA platform
"""

ALL_HOSTS = "machines"
FORETOLD = ("infra.notify.stack", "infra.release.environment", "infra.site.edge", "infra.site.project")
"""Modules that the actions of procedures import first of all."""


def known_hosts(hosts: list[HostOutput]) -> str:
    """One line a host, in the spelling that ssh looks up."""
    lines = []
    for host in hosts:
        address = host.address if host.port == 22 else f"[{host.address}]:{host.port}"  # noqa: PLR2004
        lines.append(f"{address} {' '.join(host.host_key.split()[:2])}\n")
    return "".join(lines)


def write_private(path: Path, content: str) -> None:
    """Replace a file of mode 0600 where its content differs."""
    if path.exists() and path.read_text() == content:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staged = path.with_suffix(".new")
    staged.touch(mode=0o600)
    staged.write_text(content)
    staged.replace(path)


def connection(host: HostOutput, known_hosts_file: Path) -> dict[str, Any]:
    """Connection variables of one host."""
    variables: dict[str, Any] = {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": host.user,
        "ansible_become": host.become,
        "ansible_ssh_common_args": (
            f"-o UserKnownHostsFile={known_hosts_file} -o GlobalKnownHostsFile=/dev/null"
            " -o StrictHostKeyChecking=yes -o UpdateHostKeys=no"
        ),
    }
    if host.private_key_file:
        key = Path(host.private_key_file).expanduser()
        variables["ansible_ssh_private_key_file"] = str(key)
        variables["ansible_ssh_common_args"] += " -o IdentitiesOnly=yes"
    return variables


def common_variables(stack: str, outputs: StackOutputs) -> dict[str, Any]:
    """Variables of the whole environment."""
    return {
        "icupa_stack": stack,
        "icupa_environment": outputs.environment,
        "icupa_domain": outputs.domain,
        "icupa_settings": outputs.settings.model_dump(mode="json"),
        "icupa_record": outputs.record.model_dump(mode="json", exclude_none=True),
        "icupa_secretstore": outputs.secretstore.model_dump(mode="json", exclude_none=True),
        "icupa_release": outputs.release.model_dump(),
        "icupa_urls": outputs.urls,
        "icupa_regions": {host.region: host.address for host in outputs.hosts},
        "icupa_outputs": outputs.model_dump(mode="json", exclude={"projects"}),
    }


def outputs_of(stack: str, file: Path | None) -> StackOutputs:
    """Outputs of `stack`. While Pulumi looks for them, this process imports what it will need anyway."""
    with ThreadPoolExecutor(1) as aside:
        found = aside.submit(read_outputs, stack, file)
        for name in FORETOLD:
            import_module(name)
        return found.result()


class InventoryModule(BaseInventoryPlugin):
    """Reads one stack."""

    NAME = "stack"

    def verify_file(self, path: str) -> bool:
        """Accept any YAML file."""
        return bool(super().verify_file(path)) and path.endswith((".yml", ".yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        stack = self._vars.get("stack") or self.get_option("stack")
        if not stack:
            raise AnsibleParserError("no stack named: add `-e stack=<name>` or set ICUPA_STACK")
        stack = str(stack)
        file = self.get_option("outputs_file")
        try:
            outputs = outputs_of(stack, Path(file) if file else None)
            self._fill(stack, outputs)
        except (StackError, RuntimeStateError) as error:
            raise AnsibleParserError(str(error)) from error

    def _fill(self, stack: str, outputs: StackOutputs) -> None:
        # In a process of its own: a client of object stores has threads, and in the processes that Ansible
        # forks of this one for its tasks it would wait for them for ever.
        with ProcessPoolExecutor(1, get_context("fork")) as apart:
            runtimes = apart.submit(read_runtimes, outputs).result()
        pinned = stack_home(stack) / "known_hosts"
        write_private(pinned, known_hosts(outputs.hosts))
        for name, value in common_variables(stack, outputs).items():
            self.inventory.set_variable("all", name, value)
        names = {host.name for host in outputs.hosts}
        for host in outputs.hosts:
            groups = [ALL_HOSTS, host.role, f"region_{host.region.replace('-', '_')}"]
            # A host may be called after its role: then the name alone already selects it.
            for group in [name for name in groups if name not in names]:
                self.inventory.add_group(group)
                self.inventory.add_host(host.name, group=group)
            variables = connection(host, pinned) | {
                "icupa_region": host.region,
                "icupa_role": host.role,
                "icupa_project": outputs.project(host.name),
                "icupa_runtime": runtimes[host.name].model_dump(mode="json"),
            }
            for name, value in variables.items():
                self.inventory.set_variable(host.name, name, value)
