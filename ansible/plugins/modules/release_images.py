#!/usr/bin/python
"""Images of releases on a host: listed, pulled, the old ones removed; see DOCUMENTATION."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.fence import FencedError, fenced
from ansible.module_utils.images import ImagesError, listed, run

DOCUMENTATION = """
module: release_images
short_description: List, pull and remove images of the release's repository
description:
  - Looks at one repository only; images of others, and those that a container was made of, are never removed.
  - A pull runs as a transient unit of systemd, so that it goes on where the connection is lost, and a second
    call finds it. Each call waits for C(patience) and then says how far it is.
options:
  repository: {description: "Registry and path, without tag or digest.", type: str, required: true}
  state:
    description:
      - V(listed) changes nothing. V(present) pulls C(digest). V(pruned) removes what is not in C(keep).
    choices: [listed, present, pruned]
    type: str
  digest: {description: Image to pull., type: str}
  keep: {description: Digests that stay., type: list, elements: str}
  docker_config: {description: Directory with the registry login., type: path}
  patience: {description: Seconds to wait for a pull., type: float}
  timeout: {description: Seconds after which a pull is ended., type: int}
  fence:
    description: Token of the operation, which must not be lower than one that this host has seen; 0 is none.
    type: int
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Remove images of old releases
  release_images:
    repository: registry.example.com/icupa/agents-service
    state: pruned
    keep: ["sha256:0123…"]
"""

RETURN = """
images:
  description: "What is there afterwards: digest, id, names, labels, containers, bytes."
  type: list
  returned: always
done: {description: Whether the image is there., type: bool, returned: with state present}
progress: {description: "Layers: all, and those that are complete.", type: dict, returned: while a pull runs}
removed: {description: Digests that were or would be removed., type: list, returned: with state pruned}
in_use: {description: Digests that would be removed but containers need them., type: list,
  returned: with state pruned}
"""

POLL = 0.2
LOG_LINES = 5
LOGS = Path("/run")
NAME_LENGTH = 12
STARTING = "Pulling fs layer"
COMPLETE = ("Pull complete", "Already exists")


def has(images: Iterable[dict[str, Any]], digest: str) -> bool:
    """Whether an image is there."""
    return any(image["digest"] == digest for image in images)


def progress(log: str) -> dict[str, int]:
    """How far a pull is, by what it printed."""
    layers: dict[str, bool] = {}
    for line in log.splitlines():
        layer, _, said = line.partition(": ")
        if said in (STARTING, *COMPLETE):
            layers[layer] = layers.get(layer, False) or said in COMPLETE
    return {"layers": len(layers), "complete": sum(layers.values())}


def active(unit: str) -> bool:
    """Whether a unit runs."""
    return run("systemctl", "is-active", unit).stdout.strip() in ("active", "activating")


def start(unit: str, log: Path, reference: str, parameters: dict[str, Any]) -> None:
    """Start a pull."""
    login = [f"--setenv=DOCKER_CONFIG={parameters['docker_config']}"] if parameters["docker_config"] else []
    done = run(
        "systemd-run",
        f"--unit={unit}",
        "--collect",
        "--quiet",
        f"--property=StandardOutput=truncate:{log}",
        "--property=StandardError=inherit",
        f"--property=RuntimeMaxSec={parameters['timeout']}",
        *login,
        "docker",
        "pull",
        reference,
    )
    if done.returncode != 0 and not active(unit):
        raise ImagesError(f"systemd-run: {done.stderr.strip()}")


def present(module: AnsibleModule) -> dict[str, Any]:
    """State `present`."""
    repository, digest = module.params["repository"], module.params["digest"]
    images = listed(repository)
    unit = f"icupa-pull-{digest.partition(':')[2][:NAME_LENGTH]}"
    log = LOGS / f"{unit}.log"
    if has(images, digest):
        log.unlink(missing_ok=True)
        return {"changed": False, "done": True, "images": images}
    if module.check_mode:
        return {"changed": True, "done": False, "images": images, "msg": f"would pull {repository}@{digest}"}
    deadline = time.monotonic() + module.params["patience"]
    if not active(unit):
        with fenced(module.params["fence"]):
            pass
        start(unit, log, f"{repository}@{digest}", module.params)
    while (running := active(unit)) and time.monotonic() < deadline:
        time.sleep(POLL)
    said = log.read_text(errors="replace") if log.exists() else ""
    images = listed(repository)
    if has(images, digest):
        log.unlink(missing_ok=True)
        return {"changed": True, "done": True, "images": images}
    if not running:
        last = "; ".join(said.strip().splitlines()[-LOG_LINES:]) or "it was ended"
        raise ImagesError(f"{repository}@{digest} can't be pulled: {last}")
    return {"changed": True, "done": False, "images": images, "progress": progress(said)}


def remove(names: Iterable[str]) -> None:
    """Remove names of images, and with the last one the image."""
    for name in dict.fromkeys(names):
        done = run("docker", "image", "rm", name)
        if done.returncode != 0 and "no such image" not in done.stderr.lower():
            raise ImagesError(f"docker image rm {name}: {done.stderr.strip()}")


def pruned(module: AnsibleModule) -> dict[str, Any]:
    """State `pruned`: an image goes with all its names in this repository, if no container needs it."""
    keep = set(module.params["keep"])
    images = listed(module.params["repository"])
    wanted = {image["id"] for image in images if image["digest"] in keep}
    old = [image for image in images if image["id"] not in wanted]
    removed = [image for image in old if not image["containers"]]
    if not module.check_mode:
        with fenced(module.params["fence"]):
            remove(name for image in removed for name in image["names"])
        images = listed(module.params["repository"]) if removed else images
    return {
        "changed": bool(removed),
        "images": images,
        "removed": [image["digest"] or image["names"][0] for image in removed],
        "in_use": [image["digest"] or image["names"][0] for image in old if image["containers"]],
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["listed", "present", "pruned"], "default": "listed"},
            "digest": {"type": "str"},
            "keep": {"type": "list", "elements": "str"},
            "docker_config": {"type": "path"},
            "patience": {"type": "float", "default": 4.0},
            "timeout": {"type": "int", "default": 1800},
            "fence": {"type": "int", "default": 0},
        },
        required_if=[("state", "present", ("digest", "docker_config")), ("state", "pruned", ("keep",))],
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "present":
            result = present(module)
        elif module.params["state"] == "pruned":
            result = pruned(module)
        else:
            result = {"changed": False, "images": listed(module.params["repository"])}
    except FileNotFoundError as error:
        module.fail_json(msg=f"{error.filename} is not installed")
    except (FencedError, ImagesError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
