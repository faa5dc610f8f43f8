"""The telemetry path of the running local stack: into a machine's collector, and what the sink got."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from typing import Any

from infra import local
from infra.outputs.read import read_outputs
from infra.record import open_record
from infra.services import names
from infra.world.traces import sink_file
from tests.running import STACK

COLLECTOR_URL = f"http://{names.OTEL_COLLECTOR}:{names.OTLP_HTTP_PORT}"
"""The collector as the service knows it."""
_TIMEOUT = 60.0
_POST = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1], sys.stdin.buffer.read(), {"Content-Type": "application/json"})
with urllib.request.urlopen(asked, timeout=20) as answer:
    print(answer.status, answer.read().decode())
"""


def output(command: Sequence[str], stdin: str | None = None) -> str:
    """Standard output of a command that must succeed."""
    try:
        done = subprocess.run(
            list(command), input=stdin, capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(command[:6])} …: {error.stderr.strip()}") from error
    return done.stdout


def active_machine() -> local.Machine:
    """The machine that serves the public name."""
    active = open_record(read_outputs(STACK).record).state().active_host
    return next(machine for machine in local.MACHINES if machine.name == active)


class MachineTelemetry:
    """Collector and service of one machine."""

    def __init__(self, machine: local.Machine) -> None:
        self._inside = ["docker", "exec", "-i", machine.container]
        state = open_record(read_outputs(STACK).record).state()
        self._service = f"{names.AGENTS}-{state.host(machine.name).active_slot}"

    def on_machine(self, *command: str) -> str:
        """Output of a command on the machine."""
        return output([*self._inside, *command])

    def container(self, service: str) -> str:
        """Id of a service's running container."""
        label = f"label=com.docker.compose.service={service}"
        ids = self.on_machine("docker", "ps", "-q", "--filter", label).split()
        if len(ids) != 1:
            raise RuntimeError(f"{len(ids)} running containers of {service}")
        return ids[0]

    def beside_the_service(self, script: str, *arguments: str) -> list[str]:
        """Command that runs Python in the service's container; its standard input is the script's."""
        python = ["python3", "-c", script, *arguments]
        return [*self._inside, "docker", "exec", "-i", self.container(self._service), *python]

    def post(self, signal: str, document: dict[str, Any]) -> None:
        """Send one export to the collector, from where the service is; it must be accepted as a whole."""
        command = self.beside_the_service(_POST, f"{COLLECTOR_URL}/v1/{signal}")
        status, body = output(command, json.dumps(document)).split(maxsplit=1)
        if status != "200" or json.loads(body).get("partialSuccess"):
            raise RuntimeError(f"{signal}: the collector answers {status} {body}")


def sink_lines(signal: str, text: str) -> str:
    """What the sink has of a signal, as text: the lines with `text`."""
    command = ["sh", "-c", 'grep -F -- "$1" "$2" || test $? = 1', "sh", text, sink_file(signal)]
    return output(["docker", "exec", local.TRACES.container, *command])


def sink_spans(run: str) -> Counter[int]:
    """How often the sink has each span of a run of `otlp_load`, by number."""
    pattern = f'"spanId":"{run}[0-9a-f]{{8}}"'
    command = ["sh", "-c", 'grep -oE -- "$1" "$2" || test $? = 1', "sh", pattern, sink_file("traces")]
    found = output(["docker", "exec", local.TRACES.container, *command]).split()
    return Counter(int(item[-9:-1], 16) for item in found)
