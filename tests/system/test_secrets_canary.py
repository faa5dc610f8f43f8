"""No secret is anywhere but where it is used (SEC-4): values are looked for, in clear and in base64."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from infra import local, paths
from infra.config.load import load_file
from infra.secrets.catalogue import CATALOGUE
from infra.secretstore import open_store
from infra.secretstore.consumers import readers
from infra.services import names
from tests.canary import Canary
from tests.running import SITE, STACK, command, machine, outputs_document, succeeds

pytestmark = pytest.mark.system

PROJECT = "/opt/icupa/deployments/agents-service"
PLACES = pytest.mark.parametrize("place", local.MACHINES, ids=lambda place: place.name)
SAMPLES_APART = 0.02


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    store = open_store({}, STACK)
    values = store.get_many(store.entries())
    # Those of other providers than the local ones may be missing; most are there.
    assert len(values) > len(CATALOGUE) * 3 / 4
    with tempfile.TemporaryDirectory() as private:
        yield Canary(values, Path(private) / "patterns")


def on(place: local.Machine, script: str) -> tuple[str, ...]:
    return ("docker", "exec", place.container, "sh", "-ec", script)


def own(service: str) -> set[str]:
    """Secrets that a service of the project consumes."""
    slotted = (name for name in (names.AGENTS, names.MIGRATE) if service.startswith(f"{name}-"))
    consumer = next(slotted, service)
    return {name for name in CATALOGUE if consumer in readers(name, load_file(STACK))}


@PLACES
def test_what_is_looked_for_is_found_where_it_is_used(place: local.Machine, canary: Canary) -> None:
    found = canary.in_output(*on(place, f"cat {PROJECT}/agents-service.env"))
    assert {"openai-api-key", "postgres-app-password", "metrics-token"} <= found
    encoded = canary.in_output(*on(place, f"base64 --wrap=0 {PROJECT}/agents-service.env"))
    assert encoded == found


def test_none_is_in_what_pulumi_keeps(canary: Canary) -> None:
    assert canary.in_text(succeeds(["pulumi", "stack", "export", "--stack", STACK])) == set()
    assert canary.in_text(json.dumps(outputs_document())) == set()
    kept = [file for file in paths.pulumi_backend().rglob("*") if file.is_file()]
    assert kept
    assert canary.in_files(kept) == {}


def test_none_is_in_the_record_or_the_tree(canary: Canary) -> None:
    kept = [file for file in (paths.stack_home(STACK) / "record").rglob("*") if file.is_file()]
    assert kept
    assert canary.in_files(kept) == {}
    tracked = succeeds(["git", "ls-files", "-z"]).split("\0")
    assert canary.in_files(paths.REPOSITORY / file for file in tracked if file) == {}
    made = [file for file in (paths.REPOSITORY / "build" / "reports").glob("*") if file.is_file()]
    assert canary.in_files(made) == {}


def test_none_is_in_what_the_engine_tells_of_the_outside_world(canary: Canary) -> None:
    client = docker.from_env()
    parties = client.containers.list(all=True, filters={"name": local.PREFIX})
    assert len(parties) >= len(local.PARTIES) + len(local.MACHINES)
    found = {party.name: canary.in_text(json.dumps(party.attrs)) for party in parties}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}
    client.close()


def inspected(place: local.Machine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        machine(place).shell("docker inspect $(docker ps --all --quiet)")
    )
    assert len(found) >= 7
    return found


@PLACES
def test_a_container_shows_no_secret_but_its_own(place: local.Machine, canary: Canary) -> None:
    strange = {}
    for container in inspected(place):
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        if found := canary.in_text(json.dumps(container)) - own(service):
            strange[service] = found
    assert strange == {}


@PLACES
def test_none_is_in_the_logs_of_a_machine(place: local.Machine, canary: Canary) -> None:
    logs = 'for id in $(docker ps --all --quiet); do docker logs "$id" 2>&1; done; journalctl --no-pager'
    assert canary.in_output(*on(place, logs)) == set()


@PLACES
def test_none_is_in_compose_or_units(place: local.Machine, canary: Canary) -> None:
    kept = f"cat {PROJECT}/compose.yaml; find /etc/systemd /run/systemd/system -type f -exec cat {{}} +"
    assert canary.in_output(*on(place, kept)) == set()


@PLACES
def test_none_is_in_a_file_that_everybody_may_read(place: local.Machine, canary: Canary) -> None:
    """A directory that is closed closes what is in it."""
    readable = (
        r"find / /run /tmp /dev/shm -xdev \( -path /usr -o -type d ! -perm -o=x \) -prune"
        " -o -type f -perm -o=r -exec cat {} +"
    )
    assert canary.in_output(*on(place, readable)) == set()


@PLACES
def test_none_is_left_by_ansible_on_a_machine(place: local.Machine, canary: Canary) -> None:
    left = "find /root /home /tmp /var/tmp -xdev -path '*ansible*' -type f -exec cat {} +; echo end"
    assert canary.in_output(*on(place, left)) == set()


def test_none_is_in_an_image(canary: Canary) -> None:
    place = local.PRIMARY
    for image in {container["Image"] for container in inspected(place)}:
        found = canary.in_output(*on(place, f"docker save {image}"))
        found |= canary.in_output(*on(place, f"docker history --no-trunc {image}; docker inspect {image}"))
        assert found == set(), image


class CommandLines(threading.Thread):
    """Collects the command lines of all processes of this machine, those in containers too, until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(SAMPLES_APART):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(process.read_bytes())
                except OSError:
                    continue

    def __enter__(self) -> CommandLines:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def test_none_is_in_a_command_line_or_the_log_of_a_site_play(canary: Canary) -> None:
    # Files with secrets are written anew, so that there is something to say about them.
    for place in local.MACHINES:
        machine(place).shell(f"echo '# changed' >> {PROJECT}/agents-service.env")
    with CommandLines() as sampled:
        done = command([*SITE, "-vvv", "--diff"])
    assert done.returncode == 0, done.stdout[-2000:]
    assert any(b"ansible" in line for line in sampled.seen)
    assert any(b"AnsiballZ" in line or b"python3" in line for line in sampled.seen)
    assert canary.in_text(b"\n".join(sampled.seen)) == set()
    assert "agents-service.env" in done.stdout
    assert canary.in_text(done.stdout + done.stderr) == set()
    caches = [file for file in (Path.home() / ".ansible").rglob("*") if file.is_file()]
    assert canary.in_files(caches) == {}
