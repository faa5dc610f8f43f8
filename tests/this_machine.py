"""`python -m tests.this_machine` makes this machine a host, as the site play does, and proves that it is one.

The roles of hosts run here by a local connection, twice; the second time nothing may change. For machines
that are thrown away: the firewall, SSH and the engine of this one are changed for good.
"""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from infra import paths
from tests.bench.up import recap

ALLOW = "ICUPA_ALLOW_THIS_MACHINE"
PLAYBOOK = "ansible/playbooks/hosts.yml"
INVENTORY = "tests/this_machine.yml"
# The project's configuration has the inventory of stacks only.
ENVIRONMENT = {"ANSIBLE_INVENTORY_ENABLED": "ansible.builtin.yaml"}


class RefusedError(Exception):
    """The roles must not run here; nothing was touched."""


def operator(environment: Mapping[str, str], user: str) -> str:
    """Return whom SSH lets in afterwards.

    Raises:
        RefusedError: nobody has allowed it, or there is only root.
    """
    if environment.get(ALLOW) != "yes":
        raise RefusedError(
            f"this changes the firewall, SSH and the engine of this very machine for good: set {ALLOW}=yes "
            "where that is wanted"
        )
    name = environment.get("SUDO_USER") or user
    if name == "root":
        raise RefusedError(
            "run it as a user who may use sudo: SSH lets that user in afterwards, and never root"
        )
    return name


def command(user: str) -> list[str]:
    """Return the play over this machine."""
    variables = json.dumps({"hardening_ssh_users": [user]})
    return ["ansible-playbook", "--inventory", INVENTORY, PLAYBOOK, "--extra-vars", variables]


def play(words: Sequence[str], *, again: bool) -> int:
    """Run the play and show it; return the number of changes of the second run, else 0.

    Raises:
        CalledProcessError: it failed.
    """
    done = subprocess.run(
        words,
        cwd=paths.REPOSITORY,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE if again else None,
        text=True,
        check=False,
    )
    if again:
        print(done.stdout, flush=True)
    done.check_returncode()
    return recap(done.stdout).changed if again else 0


def main() -> int:
    """Run both plays; return the exit code."""
    try:
        words = command(operator(os.environ, getpass.getuser()))
        play(words, again=False)
        changed = play(words, again=True)
    except RefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: {PLAYBOOK} ended with {error.returncode}", file=sys.stderr)
        return 1
    if changed:
        print(f"error: the second play changed {changed} things, see above", file=sys.stderr)
        return 1
    print("this machine is a host: the second play changed nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
