"""Stands in for `docker`, `systemd-run` and `systemctl` by its name; its state is a JSON file beside it."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent


@contextmanager
def state() -> Iterator[dict[str, Any]]:
    """The state, changed under a lock."""
    with (HERE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = json.loads((HERE / "state.json").read_text())
        yield found
        (HERE / "state.json").write_text(json.dumps(found))


def docker(arguments: list[str]) -> int:
    """The commands that our modules use."""
    with state() as engine:
        engine["asked"].append(arguments)
        images, containers = engine["images"], engine["containers"]
    match arguments:
        case ["image", "ls", *_]:
            print("\n".join(image["Id"] for image in images))
        case ["image", "inspect", *names]:
            found = [it for it in images if {it["Id"], *it["RepoDigests"], *it["RepoTags"]} & set(names)]
            print(json.dumps(found))
            return 0 if found else 1
        case ["ps", *_]:
            print("\n".join(container["Name"] for container in containers))
        case ["container", "inspect", *_]:
            print(json.dumps(containers))
        case ["image", "rm", name]:
            return remove(name)
        case ["pull", reference]:
            return pull(reference)
        case ["rm", "--force", "--volumes", name]:
            process = HERE / f"{name}.pid"
            if process.exists():
                subprocess.run(["kill", "-9", process.read_text()], check=False)
        case ["compose", *_]:
            container = arguments[arguments.index("--name") + 1]
            return application(container, {})
        case ["exec", "--env", mark, *_]:
            name, _, container = mark.partition("=")
            return application(container, {name: container})
    return 0


def remove(name: str) -> int:
    """Remove a name, and an image without any."""
    with state() as engine:
        for image in engine["images"]:
            for names in (image["RepoDigests"], image["RepoTags"]):
                if name in names:
                    names.remove(name)
        engine["images"] = [it for it in engine["images"] if it["RepoDigests"] or it["RepoTags"]]
    return 0


def pull(reference: str) -> int:
    """Pull slowly: one layer, then another as soon as the file `go` is there."""
    print("aa: Pulling fs layer\nbb: Pulling fs layer\naa: Pull complete", flush=True)
    while not (HERE / "go").exists():
        time.sleep(0.02)
    if (HERE / "go").read_text():
        print((HERE / "go").read_text(), file=sys.stderr, flush=True)
        return 1
    with state() as engine:
        image = {"Id": f"id-{reference}", "RepoDigests": [reference], "RepoTags": [], "Config": {}}
        engine["images"].append(image)
        engine["login"] = os.environ.get("DOCKER_CONFIG")
    return 0


def application(container: str, more: dict[str, str]) -> int:
    """Run the script that the state names, with what was handed on."""
    with state() as engine:
        engine["environment"] = {**os.environ, **more}
        script = engine["script"]
    environment = {**os.environ, **more}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as process:
        (HERE / f"{container}.pid").write_text(str(process.pid))
        return process.wait()


def systemd_run(arguments: list[str]) -> int:
    """Run a command in the background, as a unit."""
    unit = next(it for it in arguments if it.startswith("--unit=")).partition("=")[2]
    output = next(it for it in arguments if "StandardOutput" in it).partition("truncate:")[2]
    command = arguments[arguments.index("docker") :]
    login = next(it for it in arguments if it.startswith("--setenv=")).removeprefix("--setenv=")
    name, _, value = login.partition("=")
    with Path(output).open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, name: value}
        )
    (HERE / unit).write_text(str(process.pid))
    return 0


def systemctl(arguments: list[str]) -> int:
    """Tell whether a unit runs; those that are only shown do."""
    if arguments[0] == "show":
        print("ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no")
        return 0
    unit = HERE / arguments[1]
    stat = Path(f"/proc/{unit.read_text()}/stat") if unit.exists() else unit / "none"
    alive = stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    print("active" if alive else "inactive")
    return 0 if alive else 3


if __name__ == "__main__":
    act = {"docker": docker, "systemd-run": systemd_run, "systemctl": systemctl}
    sys.exit(act[Path(sys.argv[0]).name](sys.argv[1:]))
