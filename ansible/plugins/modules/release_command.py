#!/usr/bin/python
"""Runs an application's command with the definition of a Compose service; see DOCUMENTATION."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.fence import FencedError, fenced

DOCUMENTATION = """
module: release_command
short_description: Run an application's command as the service would be run
description:
  - Runs C(docker compose run) with the definition of a service of the project, so that user, networks,
    limits, files and environment are those of the service, and nothing else is started; or, with C(inside),
    C(docker exec) in the service's own container.
  - What an earlier run left behind, a container or a process in one, is ended first; so is this one after
    C(timeout).
  - The command's failure is a result, not the module's failure.
options:
  root: {description: Directory of the project., type: path, required: true}
  container: {description: Name of the container., type: str, required: true}
  service: {description: Service whose definition it gets., type: str, required: true}
  profile: {description: Profile of the service., type: str, required: true}
  image: {description: "Image, by digest; it must be on the host.", type: str, required: true}
  command: {description: Arguments of the image's entry point., type: list, elements: str, required: true}
  variables: {description: Variables of the project for this run., type: dict}
  environment: {description: Environment of the command., type: dict}
  secrets: {description: Environment of the command that is shown nowhere., type: dict}
  read_only: {description: Whether it is run in a dry run., type: bool}
  inside:
    description: Whether it is run in the service's container where one runs with the image.
    type: bool
  docker_config: {description: Directory with the registry login., type: path}
  timeout: {description: Seconds., type: float}
  fence:
    description: Token of the operation, which must not be lower than one that this host has seen; 0 is none.
    type: int
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Ask what the release would migrate
  release_command:
    root: /opt/icupa/deployments/agents-service
    container: icupa-migration-plan
    service: migrate-green
    profile: green
    image: registry.example.com/icupa/agents-service@sha256:0123…
    variables: {AGENTS_IMAGE_GREEN: "registry.example.com/icupa/agents-service@sha256:0123…"}
    command: [migrate, --plan]
    read_only: true
"""

RETURN = """
ran: {description: "Whether it was run: not where a dry run may not, or has no image.", type: bool,
  returned: always}
rc: {description: Exit status of the command., type: int, returned: where it was run}
stdout: {description: What it printed at the end., type: str, returned: where it was run}
stderr: {description: What it printed as errors at the end., type: str, returned: where it was run}
timed_out: {description: Whether it was ended., type: bool, returned: where it was run}
seconds: {description: How long it ran., type: float, returned: where it was run}
"""

MOST_OUTPUT = 64 * 1024
"""Octets of each stream that are kept, from its end."""
HIDDEN = "********"
ENDING = 10.0
CHUNK = 4096
MARK = "ICUPA_COMMAND"
"""Variable by which the processes of a command are found that runs inside another's container."""


class Tail(threading.Thread):
    """Reads a stream to its end and keeps the last part."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._kept = bytearray()
        self._cut = False
        self.start()

    def run(self) -> None:
        """Read."""
        while chunk := os.read(self._stream.fileno(), CHUNK):
            self._kept += chunk
            if len(self._kept) > MOST_OUTPUT:
                del self._kept[:-MOST_OUTPUT]
                self._cut = True

    def text(self, secrets: dict[str, str]) -> str:
        """What is kept, without values of secrets, whole lines only."""
        said = self._kept.decode(errors="replace")
        if self._cut:
            said = said.partition("\n")[2]
        for value in sorted(secrets.values(), key=len, reverse=True):
            if value:
                said = said.replace(value, HIDDEN)
        return said


def environment(parameters: dict[str, Any]) -> dict[str, str]:
    """Environment of Compose: its variables win over the file `.env`, and values are on no command line."""
    own = {**parameters["environment"], **parameters["secrets"]}
    login = {"DOCKER_CONFIG": parameters["docker_config"]} if parameters["docker_config"] else {}
    profile = {"COMPOSE_PROFILES": parameters["profile"]}
    return {**os.environ, **login, **profile, **parameters["variables"], **own}


def handed_on(parameters: dict[str, Any]) -> list[str]:
    """Names of the variables that the command gets from the environment of Docker's command line."""
    return [word for name in (*parameters["environment"], *parameters["secrets"]) for word in ("--env", name)]


def arguments(parameters: dict[str, Any]) -> list[str]:
    """Command line of Compose."""
    return [
        *("docker", "compose", "--progress", "quiet", "--project-directory", parameters["root"]),
        *("run", "--rm", "--no-deps", "--no-TTY", "--name", parameters["container"]),
        *handed_on(parameters),
        parameters["service"],
        *parameters["command"],
    ]


def within(parameters: dict[str, Any]) -> list[str]:
    """Command line that runs it in the service's own container; empty where none runs with the image."""
    labels = {
        "project.working_dir": parameters["root"],
        "service": parameters["service"],
        "oneoff": "False",
    }
    wanted = [f"label=com.docker.compose.{name}={value}" for name, value in labels.items()]
    filters = [word for label in wanted for word in ("--filter", label)]
    listed = subprocess.run(
        ["docker", "ps", "--quiet", "--no-trunc", *filters], capture_output=True, text=True, check=False
    )
    ids = listed.stdout.split()
    if len(ids) != 1:
        return []
    inspected = subprocess.run(
        ["docker", "container", "inspect", *ids], capture_output=True, text=True, check=False
    )
    if inspected.returncode != 0:
        return []
    (configuration,) = (container["Config"] for container in json.loads(inspected.stdout))
    if configuration["Image"] != parameters["image"]:
        return []
    mark = ("--env", f"{MARK}={parameters['container']}")
    entry = configuration["Entrypoint"] or []
    return ["docker", "exec", *mark, *handed_on(parameters), *ids, *entry, *parameters["command"]]


def remove(container: str) -> None:
    """Remove the container if it is there."""
    subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False)


def end(name: str) -> None:
    """End the processes of a command that runs inside another's container: Docker has no way to."""
    mark = f"{MARK}={name}".encode()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


def has_image(image: str) -> bool:
    """Whether the engine has the image."""
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    return found.returncode == 0


def run(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the command to its end, or to the time limit."""
    started = time.monotonic()
    line = within(parameters) if parameters["inside"] else []
    stop: Callable[[str], None] = end if line else remove
    with subprocess.Popen(
        line or arguments(parameters),
        env=environment(parameters),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        if process.stdout is None or process.stderr is None:
            raise AssertionError("pipes were asked for")
        tails = Tail(process.stdout), Tail(process.stderr)
        timed_out = False
        try:
            process.wait(parameters["timeout"])
        except subprocess.TimeoutExpired:
            timed_out = True
            stop(parameters["container"])
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        for tail in tails:
            tail.join(ENDING)
    # Whatever became of it: nothing stays.
    stop(parameters["container"])
    return {
        "rc": process.returncode,
        "stdout": tails[0].text(parameters["secrets"]),
        "stderr": tails[1].text(parameters["secrets"]),
        "timed_out": timed_out,
        "seconds": round(time.monotonic() - started, 2),
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "container": {"type": "str", "required": True},
            "service": {"type": "str", "required": True},
            "profile": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "variables": {"type": "dict", "default": {}},
            "environment": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "read_only": {"type": "bool", "default": False},
            "inside": {"type": "bool", "default": False},
            "docker_config": {"type": "path"},
            "timeout": {"type": "float", "default": 300.0},
            "fence": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        present = has_image(parameters["image"])
        if module.check_mode and not (present and parameters["read_only"]):
            module.exit_json(changed=not parameters["read_only"], ran=False, present=present)
        if not present:
            module.fail_json(msg=f"{parameters['image']} is not on this host")
        # Only looked at: what runs long must not keep a later operation from this host.
        with fenced(parameters["fence"]):
            remove(parameters["container"])
            end(parameters["container"])
        result = run(parameters)
    except FileNotFoundError as error:
        module.fail_json(msg=f"{error.filename} is not installed")
    except FencedError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=not parameters["read_only"], ran=True, **result)


if __name__ == "__main__":
    main()
