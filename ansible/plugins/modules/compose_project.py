#!/usr/bin/python
"""Brings a Compose project that a systemd unit owns to its wanted state; see DOCUMENTATION."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.containers import (
    UP,
    Container,
    ConvergeError,
    Docker,
    unfit,
    unit_problems,
    unit_properties,
)
from ansible.module_utils.fence import FencedError, fenced

DOCUMENTATION = """
module: compose_project
short_description: Converge a Compose project through its systemd unit
description:
  - Compares the running containers with what must run, by the hash that each carries as a label.
  - Where all fit, changes nothing. Else pulls missing images, then starts or reloads the unit, which runs
    C(docker compose up -d) and so touches only containers that are out of date, and waits for their health.
  - Where only services that O(awaited) names are wrong, makes and starts just those, so that the jobs of
    other services are not run again.
options:
  project: {description: Name of the Compose project., type: str, required: true}
  unit: {description: Name of the systemd unit., type: str}
  root: {description: Directory of the project., type: path}
  services:
    description: Service to its C(configuration) hash and whether it is a C(job) that ends.
    type: dict
  idle:
    description: Services that must not run.
    type: list
    elements: str
  state:
    description:
      - V(started) makes the wanted services run and leaves idle ones alone.
      - V(steady) changes nothing; it waits until services have been healthy for O(seconds) without a restart.
      - V(beside) replaces those of O(awaited) that are out of date without a moment in which none serves. A
        second container is started, and the first one ends gracefully once that is healthy.
      - V(retired) stops idle ones gracefully and removes their containers. One that was never ready served
        nobody and is not waited for.
    choices: [started, steady, beside, retired]
    type: str
  seconds: {description: How long services must have been healthy., type: float}
  fence:
    description: Token of the operation, which must not be lower than one that this host has seen; 0 is none.
    type: int
  images: {description: Images to pull where missing., type: list, elements: str}
  docker_config: {description: Directory with the registry login., type: path}
  timeout: {description: Seconds until everything must be healthy., type: int}
  awaited:
    description: Services that are waited for; all that are wanted, where none is named.
    type: list
    elements: str
  alone:
    description: Whether other services than those of O(awaited) are left as they are, out of date or not.
    type: bool
    default: false
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Start the project
  compose_project:
    project: agents-service
    unit: agents-service.service
    root: /opt/icupa/deployments/agents-service
    services: "{{ __agents_stack_files.services }}"
"""

RETURN = """
reasons: {description: Why the project had to be converged., type: list, returned: always}
"""

POLL = 0.25
LOG_LINES = 15
PULL_TIMEOUT = 1800
GIVE_UP_RESTARTS = 3
"""Restarts while it is waited for a service after which it is not waited any longer."""
SHORT_STOP = 2
"""Seconds that a container gets to stop which never was ready."""
STOP_TIMEOUT = 300
RUNNING = ("running", "restarting", "paused")


def pull(docker: Docker, images: list[str]) -> list[str]:
    """Pull what the engine does not hold; returns what was pulled."""

    def held(*names: str) -> bool:
        found = docker.run("image", "inspect", "--format", "{{.Id}}", *names, fail=False)
        return bool(found.returncode == 0)

    # Each question is a process: mostly one is enough.
    if not images or held(*images):
        return []
    missing = [image for image in images if len(images) == 1 or not held(image)]
    for image in missing:
        docker.run("pull", "--quiet", image, timeout=PULL_TIMEOUT)
    return missing


def systemctl(*arguments: str, timeout: float | None = None) -> None:
    """Run systemctl; ConvergeError with the unit's last messages, or after `timeout` seconds.

    What the unit was doing is then ended too: a reload that hangs would keep all later ones waiting.
    """
    try:
        done = subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        subprocess.run(
            ["systemctl", "kill", "--kill-whom=control", "--signal=KILL", arguments[-1]],
            capture_output=True,
            check=False,
        )
        raise ConvergeError(f"systemctl {' '.join(arguments)} did not end within {timeout:.0f} s") from None
    if done.returncode != 0:
        journal = subprocess.run(
            [
                "journalctl",
                "--no-pager",
                "--lines",
                str(LOG_LINES),
                "--output",
                "cat",
                "--unit",
                arguments[-1],
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        raise ConvergeError(f"systemctl {' '.join(arguments)} failed: {journal.stdout.strip()}")


def report(docker: Docker, wrong: dict[str, str], containers: list[Container]) -> str:
    """What is wrong, with the last lines that each service logged."""
    lines = []
    for name, what in sorted(wrong.items()):
        lines.append(f"{name} {what}")
        for container in containers:
            if container.service == name:
                logged = docker.run("logs", "--tail", str(LOG_LINES), container.id, fail=False)
                lines += [f"    {line}" for line in (logged.stdout + logged.stderr).splitlines()]
    return "\n".join(lines)


def start(module: AnsibleModule, docker: Docker) -> dict[str, Any]:
    """State `started`."""
    parameters = module.params
    services, idle, unit = parameters["services"], parameters["idle"], parameters["unit"]
    containers = docker.containers(parameters["project"])
    awaited = {
        name: wanted
        for name, wanted in services.items()
        if not parameters["awaited"] or name in parameters["awaited"]
    }
    restarts = {container.id: container.restarts for container in containers}
    properties = unit_properties(unit)
    wrong = {**unfit(services, idle, containers, ready=False), **unit_problems(unit, properties)}
    if parameters["alone"]:
        others_left = [*idle, *(services.keys() - awaited.keys())]
        wrong, services, idle = unfit(awaited, others_left, containers, ready=False), awaited, others_left
    result: dict[str, Any] = {
        "changed": bool(wrong),
        "reasons": [f"{name} {what}" for name, what in sorted(wrong.items())],
    }
    if module.check_mode or not (wrong or unfit(services, idle, containers, ready=True)):
        return result
    deadline = time.monotonic() + parameters["timeout"]
    if wrong:
        result["pulled"] = pull(docker, parameters["images"])
        try:
            # Only looked at: a run of Compose makes what the files say then, so a late one does no harm.
            with fenced(parameters["fence"]):
                pass
            others = wrong.keys() | unfit(services, idle, containers, ready=True).keys()
            fit = parameters["awaited"] and others <= awaited.keys() and properties["ActiveState"] == "active"
            if fit or parameters["alone"]:
                bring_up(docker, parameters, awaited)
            else:
                converge(unit, properties, parameters["timeout"])
        except ConvergeError as error:
            containers = docker.containers(parameters["project"])
            remaining = unfit(services, idle, containers, ready=True)
            raise ConvergeError(f"{error}\n{report(docker, remaining, containers)}") from None
    while True:
        containers = docker.containers(parameters["project"])
        remaining = unfit(awaited, [*idle, *services], containers, ready=True)
        if not remaining:
            return result
        for container in containers:
            if (
                container.service in awaited
                and container.restarts - restarts.get(container.id, 0) >= GIVE_UP_RESTARTS
            ):
                remaining[container.service] = f"ends again and again (exit code {container.exit_code})"
                raise ConvergeError(report(docker, remaining, containers))
        if time.monotonic() > deadline:
            raise ConvergeError(
                f"not healthy after {parameters['timeout']} s:\n{report(docker, remaining, containers)}"
            )
        time.sleep(POLL)


def converge(unit: str, properties: dict[str, str], timeout: float) -> None:
    """Have the unit bring the project up."""
    if properties.get("NeedDaemonReload") == "yes" or not properties.get("FragmentPath"):
        systemctl("daemon-reload")
    if properties.get("UnitFileState") != "enabled":
        systemctl("enable", unit)
    systemctl("reload" if properties.get("ActiveState") in UP else "start", unit, timeout=timeout)


def bring_up(docker: Docker, parameters: dict[str, Any], services: dict[str, Any]) -> None:
    """Make and start services whose dependencies are up, jobs first, and touch no other; or ConvergeError.

    Compose makes them as parts of the whole project: with C(--no-deps) they would carry another hash, and the
    unit's next run would make them anew. They are started without it, which looks at every dependency twice a
    second. One run at a time, as the unit's are: the processes hold the lock too, so that what a run whose
    module was killed has begun ends before the next one begins.
    """
    deadline = time.monotonic() + parameters["timeout"]
    directory = os.open(parameters["root"], os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(directory, deadline)

        def run(what: str, *arguments: str) -> str:
            return held(docker, directory, deadline, what, arguments)

        project = ("--progress", "quiet", "--project-directory", parameters["root"])
        run("docker compose create", "compose", *project, "create", *sorted(services))
        made = {container.service: container.id for container in docker.containers(parameters["project"])}
        if missing := sorted(services.keys() - made.keys()):
            raise ConvergeError(f"docker compose create made no {', '.join(missing)}")
        for name in sorted(services, key=lambda name: (not services[name]["job"], name)):
            run(f"the start of {name}", "start", made[name])
            if services[name]["job"] and (code := run(name, "wait", made[name]).split()[-1:]) != ["0"]:
                raise ConvergeError(f"{name} failed with exit code {' '.join(code)}")
    finally:
        os.close(directory)


def held(docker: Docker, directory: int, deadline: float, what: str, arguments: tuple[str, ...]) -> str:
    """Output of a command of Docker that inherits a lock; ConvergeError where it fails or does not end."""
    # A file: what a killed command leaves behind may keep a pipe open.
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=docker.environment,
            start_new_session=True,
            pass_fds=[directory],
        )
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ConvergeError(f"{what} did not end in time") from None
        said.seek(0)
        output = said.read()
    if process.returncode != 0:
        raise ConvergeError("\n".join([f"{what} failed:", *output.strip().splitlines()[-LOG_LINES:]]))
    return output


def lock(directory: int, deadline: float) -> None:
    """Wait until nobody else brings up a part of the project."""
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConvergeError("an earlier run does not end") from None
            time.sleep(POLL)
        else:
            return


def restless(names: list[str], containers: list[Container], seconds: float) -> dict[str, str]:
    """Service to why it is not steady yet; ConvergeError for one that will not be."""
    waiting: dict[str, str] = {}
    found = {container.service: container for container in containers}
    for name in names:
        container = found.get(name)
        if container is None:
            raise ConvergeError(f"{name} has no container")
        if container.restarts or container.status != "running":
            raise ConvergeError(
                f"{name} did not stay up: {container.status}, {container.restarts} restarts,"
                f" exit code {container.exit_code}"
            )
        if container.health == "unhealthy":
            raise ConvergeError(f"{name} became unhealthy")
        steady = 0.0 if container.healthy_since is None else time.time() - container.healthy_since
        if container.health != "healthy" or steady < seconds:
            waiting[name] = f"is {container.health} for {steady:.1f} s"
    return waiting


def watch(module: AnsibleModule, docker: Docker) -> dict[str, Any]:
    """State `steady`."""
    parameters = module.params
    if module.check_mode:
        return {"changed": False, "skipped": True}
    names, deadline = sorted(parameters["services"]), time.monotonic() + parameters["timeout"]
    while True:
        containers = docker.containers(parameters["project"])
        try:
            waiting = restless(names, containers, parameters["seconds"])
        except ConvergeError as error:
            wrong = dict.fromkeys(names, "logged last:")
            raise ConvergeError(f"{error}\n{report(docker, wrong, containers)}") from None
        if not waiting:
            return {"changed": False}
        if time.monotonic() > deadline:
            listed = "; ".join(f"{name} {what}" for name, what in waiting.items())
            raise ConvergeError(f"not steady after {parameters['timeout']} s: {listed}")
        time.sleep(POLL)


def replace_beside(module: AnsibleModule, docker: Docker) -> dict[str, Any]:
    """State `beside`; two containers of a service, which a run that was killed has left, end the same way."""
    parameters = module.params
    wanted = {name: parameters["services"][name] for name in parameters["awaited"]}

    def old_and_new(name: str) -> tuple[list[Container], list[Container]]:
        found = [each for each in docker.containers(parameters["project"]) if each.service == name]
        fits = [each.configuration == wanted[name]["configuration"] for each in found]
        return (
            [each for each, fit in zip(found, fits, strict=True) if not fit],
            [each for each, fit in zip(found, fits, strict=True) if fit],
        )

    outdated = [name for name in sorted(wanted) if old_and_new(name)[0]]
    result: dict[str, Any] = {
        "changed": bool(outdated),
        "reasons": [f"{name} has an outdated configuration" for name in outdated],
    }
    if module.check_mode or not outdated:
        return result
    with fenced(parameters["fence"]):
        pass
    deadline = time.monotonic() + parameters["timeout"]
    directory = os.open(parameters["root"], os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(directory, deadline)
        for name in outdated:
            old, new = old_and_new(name)
            if not new:
                scale = f"{name}={len(old) + 1}"
                project = ("--progress", "quiet", "--project-directory", parameters["root"])
                up = ("compose", *project, "up", "--detach", "--no-recreate", "--scale", scale, name)
                held(docker, directory, deadline, f"the second {name}", up)
            while wrong := unfit({name: wanted[name]}, [], old_and_new(name)[1], ready=True):
                if time.monotonic() > deadline:
                    new = old_and_new(name)[1]
                    said = report(docker, wrong, new)
                    if new:
                        docker.run("rm", "--force", "--volumes", *(each.id for each in new))
                    raise ConvergeError(f"not healthy after {parameters['timeout']} s:\n{said}")
                time.sleep(POLL)
            docker.run("stop", *(each.id for each in old), timeout=STOP_TIMEOUT)
            docker.run("rm", "--volumes", *(each.id for each in old))
    finally:
        os.close(directory)
    return result


def retire(module: AnsibleModule, docker: Docker) -> dict[str, Any]:
    """State `retired`: each idle service gets its own time to stop, one that never was ready hardly any."""
    parameters = module.params
    idle = [
        container
        for container in docker.containers(parameters["project"])
        if container.service in parameters["idle"]
    ]
    running = [container for container in idle if container.status in RUNNING]
    if idle and not module.check_mode:
        with fenced(parameters["fence"]):
            pass
        never_ready = [container.id for container in running if container.health == "starting"]
        others = [container.id for container in running if container.health != "starting"]
        if never_ready:
            docker.run("stop", "--time", str(SHORT_STOP), *never_ready, timeout=STOP_TIMEOUT)
        if others:
            docker.run("stop", *others, timeout=STOP_TIMEOUT)
        docker.run("rm", "--volumes", *(container.id for container in idle))
    return {
        "changed": bool(idle),
        "reasons": [
            f"{container.service} must not run, {'stopped and ' if container in running else ''}removed"
            for container in idle
        ],
    }


STATES = {"started": start, "steady": watch, "beside": replace_beside, "retired": retire}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "unit": {"type": "str"},
            "root": {"type": "path"},
            "services": {"type": "dict"},
            "idle": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": [*STATES], "default": "started"},
            "seconds": {"type": "float", "default": 4.0},
            "fence": {"type": "int", "default": 0},
            "images": {"type": "list", "elements": "str", "default": []},
            "docker_config": {"type": "path"},
            "timeout": {"type": "int", "default": 180},
            "awaited": {"type": "list", "elements": "str", "default": []},
            "alone": {"type": "bool", "default": False},
        },
        required_if=[
            ("state", "started", ("unit", "root", "services")),
            ("state", "steady", ("services",)),
            ("state", "beside", ("root", "services")),
        ],
        supports_check_mode=True,
    )
    docker = Docker(module.params["docker_config"])
    try:
        module.exit_json(**STATES[module.params["state"]](module, docker))
    except FileNotFoundError as error:
        if module.check_mode:
            missing = f"{error.filename} is not installed yet"
            module.exit_json(changed=module.params["state"] == "started", reasons=[missing])
        module.fail_json(msg=f"{error.filename} is not installed")
    except (ConvergeError, FencedError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
