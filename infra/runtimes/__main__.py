"""`python -m infra.runtimes --stack local --host primary` prints a host's rendered project, without Pulumi.

Images stand in it by name: their digests are known to `pulumi up` only.
"""

from __future__ import annotations

import argparse
import json
import sys

from infra.config.load import ConfigurationError, load_file
from infra.config.trust import certificates
from infra.runtimes.compose import render
from infra.services.context import Context
from infra.services.topology import topology


def main(arguments: list[str] | None = None) -> int:
    """Print the project; 1 for a configuration that is refused."""
    parser = argparse.ArgumentParser(prog="python -m infra.runtimes", description=__doc__)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--host", required=True)
    options = parser.parse_args(arguments)
    try:
        stack = load_file(options.stack)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    machines = {machine.name: machine for machine in stack.hosts.machines}
    if options.host not in machines:
        print(f"--host {options.host}: accepted: {', '.join(machines)}", file=sys.stderr)
        return 1
    machine = machines[options.host]
    trust = certificates(options.stack, stack, preview=True)
    services = topology(Context(options.stack, stack, machine.region, machine.role, trust))
    images = {name: f"{stack.registry.host}/{stack.registry.namespace}/{name}" for name in services.images}
    print(json.dumps(render(services, images), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
