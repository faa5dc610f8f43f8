"""The playbook end to end: a real controller, record and store; issuers are files, hosts directories."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infra.config.load import load_file
from infra.paths import REPOSITORY
from infra.procedures.verdict import ExitCode
from infra.runtimes.compose import render
from infra.secrets import references
from infra.secretstore import SopsStore, open_store, sops
from infra.services.context import Context
from infra.services.topology import topology
from infra.site.project import project_texts
from tests.controller import STACK, Controller, outputs
from tests.issuing import FileIssuer
from tests.playbooks.rotate.simulated import Host
from tests.system.killing import Step, kill_after, spread, trace

HERE = Path(__file__).resolve().parent
PLAYBOOK = REPOSITORY / "ansible" / "playbooks" / "rotate.yml"
KEY, COOKIE, METRICS = "openai-api-key", "oauth2-proxy-cookie-secret", "metrics-token"
POSTGRES, REDIS = "postgres-app-password", "redis-password"
HOSTS = ("primary", "standby")
HERE_OPTIONS = {
    "ansible_connection": "local",
    "ansible_become": False,
    "ansible_python_interpreter": sys.executable,
}


class Rotation(Controller):
    """A controller with two hosts that are directories."""

    store: SopsStore

    def rotate(self, secret: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self.play(PLAYBOOK, *self.options(secret), *options)

    def options(self, secret: str) -> list[str]:
        return ["-e", json.dumps({**HERE_OPTIONS, "secret": secret})]

    def issuer(self, name: str) -> FileIssuer:
        return FileIssuer(self.home / "issuers" / f"{name}.json")

    def hosts(self) -> list[Host]:
        return [Host(name, self.home) for name in HOSTS]

    def slots(self) -> dict[str, tuple[str, list[str]]]:
        """Slot that serves, and agents that run, by host."""
        state = self.record.state()
        return {
            host.name: (
                state.host(host.name).active_slot.value,
                sorted(name for name in host.containers() if name.startswith("agents-")),
            )
            for host in self.hosts()
        }

    def lost(self) -> str:
        """Containers that ended while they served."""
        file = self.home / "lost"
        return file.read_text() if file.exists() else ""

    def functions(self) -> dict[str, str]:
        file = self.home / "functions.json"
        found: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def actions(self) -> list[str]:
        """What the record's log says of rotations, without frames of runs."""
        names = [event.action for event in self.record.events() if event.action.startswith("rotate.")]
        return [name for name in names if name not in ("rotate.begin", "rotate.end")]


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def prepared(home: Path, patched: pytest.MonkeyPatch) -> Rotation:
    """All secrets that the hosts read have values; the hosts are what stack and record say."""
    stack = load_file("local")
    raw = outputs({"url": f"file://{home}/record"})
    raw["hosts"].append({**raw["hosts"][0], "name": "standby", "region": "fra1", "role": "standby"})
    for host, machine in zip(HOSTS, stack.hosts.machines, strict=True):
        services = topology(Context("local", stack, machine.region, machine.role, ()))
        images = {name: f"x/{name}@sha256:{'3' * 64}" for name in services.images}
        raw["projects"][host] = render(services, images)
    identity = sops.new_identity()[0]
    plugins = f"{HERE}/action:{HERE.parent}/rollout/action:{REPOSITORY}/ansible/plugins/action"
    made = Rotation(home, raw, {"ANSIBLE_ACTION_PLUGINS": plugins, "SOPS_AGE_KEY": identity})
    made.bootstrap()
    patched.setenv("SOPS_AGE_KEY", identity)
    made.store = open_store({}, STACK, record=made.record.store)
    names = {
        name
        for project in raw["projects"].values()
        for text in project_texts(project)
        for name in references.find(text)
    }
    made.store.put_many({name: f"value-of-{name}-{'0' * 20}" for name in names}, by="ada")
    for name in (KEY, COOKIE, METRICS):
        made.issuer(name).file.parent.mkdir(exist_ok=True)
        made.issuer(name).put(made.store.get(name))
    played = made.play(HERE / "prepare.yml", "-e", json.dumps(HERE_OPTIONS))
    assert played.returncode == 0, played.stdout
    assert made.lost() == ""
    return made


@pytest.fixture
def rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rotation:
    return prepared(tmp_path, monkeypatch)


def in_use(rotation: Rotation, name: str, services: tuple[str, ...]) -> str:
    """Assert that one value is valid at the issuer, in use by all who read it, and nowhere another one."""
    (valid,) = [key["value"] for key in rotation.issuer(name).keys().values()]
    assert rotation.store.get(name) == valid
    assert rotation.store.values()[name] == (valid,)
    for host in rotation.hosts():
        running = [
            each for each in host.containers() if each.rpartition("-")[0] in services or each in services
        ]
        assert running
        assert [each for each in running if not host.has(each, valid)] == []
    assert rotation.record.state().rotations == {}
    assert rotation.record.state().lock is None
    return valid


def test_a_key_is_replaced_everywhere_without_a_container_ending_while_it_serves(rotation: Rotation) -> None:
    old = rotation.store.get(KEY)
    done = rotation.rotate(KEY, "-vvv", "--diff")
    assert done.returncode == ExitCode.OK, done.stdout
    new = in_use(rotation, KEY, ("agents",))
    assert new != old
    assert rotation.slots() == {name: ("green", ["agents-green"]) for name in HOSTS}
    assert rotation.lost() == ""
    assert rotation.functions() == {"OPENAI_API_KEY": new}
    assert [host.name for host in rotation.hosts() for each in host.containers() if host.has(each, old)] == []
    log = "".join(event.model_dump_json() for event in rotation.record.events())
    assert [value for value in (old, new) if value in log + done.stdout + str(messages(rotation))] == []
    (message,) = messages(rotation)
    assert message["title"] == "rotate of test: ok"
    again = rotation.play(HERE / "prepare.yml", "-e", json.dumps(HERE_OPTIONS))
    assert "changed=0" in again.stdout, again.stdout
    second = rotation.rotate(KEY)
    assert second.returncode == ExitCode.OK, second.stdout
    assert in_use(rotation, KEY, ("agents",)) != new
    assert rotation.slots() == {name: ("blue", ["agents-blue"]) for name in HOSTS}


def messages(rotation: Rotation) -> list[dict[str, Any]]:
    file = rotation.home / "messages"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_what_services_share_is_replaced_too(rotation: Rotation) -> None:
    """One that the login reads, and one of the service and Prometheus: neither can overlap."""
    old = rotation.store.get_many([COOKIE, METRICS])
    done = rotation.rotate(f"{COOKIE},{METRICS}")
    assert done.returncode == ExitCode.OK, done.stdout
    assert in_use(rotation, COOKIE, ("oauth2-proxy",)) != old[COOKIE]
    assert in_use(rotation, METRICS, ("agents", "prometheus")) != old[METRICS]
    assert rotation.lost() == ""
    assert rotation.functions() == {}
    assert "scrapes fail until service and Prometheus both have the new one" in said(done)
    offered = [action for action in rotation.actions() if action == "rotate.offered"]
    assert len(offered) == 1, "both together"


def accepted(rotation: Rotation) -> dict[str, tuple[str, str]]:
    """The one login of the service and its password, and the one password of Redis, by host."""
    found = {}
    for host in rotation.hosts():
        databases = host.databases()
        ((login, password),) = [
            (role, password)
            for role, password in databases["postgres"].items()
            if role in ("agents", "agents_a", "agents_b")
        ]
        (redis,) = databases["redis"]
        assert password == rotation.store.get(POSTGRES)
        assert (f"DATABASE_USER={login}\n") in host.read("agents-service.env")
        found[host.name] = (login, redis)
    return found


def test_databases_accept_both_passwords_until_nobody_has_the_old_one(rotation: Rotation) -> None:
    before = accepted(rotation)
    old = rotation.store.get_many([POSTGRES, REDIS])
    databases = {
        host.name: {name: each for name, each in host.containers().items() if name in ("postgres", "redis")}
        for host in rotation.hosts()
    }
    done = rotation.rotate(f"{POSTGRES},{REDIS}")
    assert done.returncode == ExitCode.OK, done.stdout
    after = accepted(rotation)
    for host in rotation.hosts():
        assert after[host.name][0] != before[host.name][0], "the other role has its turn"
        assert after[host.name][1] == rotation.store.get(REDIS) != before[host.name][1]
        assert host.has("agents-green", after[host.name][1])
        running = host.containers()
        assert {name: running[name] for name in databases[host.name]} == databases[host.name], "made anew"
    assert rotation.lost() == ""
    assert rotation.record.state().rotations == {}
    assert [value for value in old.values() if value in done.stdout] == []
    again = rotation.play(HERE / "prepare.yml", "-e", json.dumps(HERE_OPTIONS))
    assert "changed=0" in again.stdout, again.stdout


def test_databases_go_back_with_a_host_that_does_not_take_it(rotation: Rotation) -> None:
    before, old = accepted(rotation), rotation.store.get(POSTGRES)
    (rotation.home / "standby.fails").touch()
    done = rotation.rotate(POSTGRES)
    assert done.returncode == ExitCode.ROLLED_BACK, done.stdout
    assert rotation.store.get(POSTGRES) == old
    assert accepted(rotation) == before
    assert rotation.lost() == ""


def test_only_the_login_is_touched_for_what_only_it_reads(rotation: Rotation) -> None:
    assert rotation.rotate(COOKIE).returncode == ExitCode.OK
    in_use(rotation, COOKIE, ("oauth2-proxy",))
    assert rotation.slots() == {name: ("blue", ["agents-blue"]) for name in HOSTS}
    assert rotation.lost() == ""


def as_before(rotation: Rotation, name: str, old: str) -> None:
    """Assert that the old value alone is valid, and in use everywhere."""
    assert in_use(rotation, name, ("agents",)) == old
    assert rotation.lost() == ""
    assert {slot for slot, _ in rotation.slots().values()} == {"blue"}
    assert {len(running) for _, running in rotation.slots().values()} == {1}


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_does_not_take_it_has_all_go_back(rotation: Rotation, host: str) -> None:
    old = rotation.store.get(KEY)
    (rotation.home / f"{host}.fails").write_text("0")
    done = rotation.rotate(KEY)
    assert done.returncode == ExitCode.ROLLED_BACK, done.stdout
    assert f"{host}: agents-green is unhealthy; the old values are in use, no new one is left" in said(done)
    as_before(rotation, KEY, old)
    assert rotation.functions() == {"OPENAI_API_KEY": old}
    assert "rotate.promoted" not in rotation.actions()


def test_a_host_that_does_not_go_back_keeps_the_new_value_valid(rotation: Rotation) -> None:
    old = rotation.store.get(KEY)
    (rotation.home / "standby.fails").write_text("0")
    (rotation.home / "primary.fails").write_text("1")
    done = rotation.rotate(KEY)
    assert done.returncode == ExitCode.ROLLBACK_FAILED, done.stdout
    assert "not undone: primary: Run what the record says: agents-blue is unhealthy" in said(done)
    assert len(rotation.issuer(KEY).keys()) == 2, "primary serves with the new one"
    assert rotation.store.get(KEY) == old
    again = rotation.rotate(KEY)
    assert again.returncode == ExitCode.ROLLED_BACK, again.stdout
    as_before(rotation, KEY, old)


@pytest.mark.parametrize(
    ("call", "text"),
    [("create", "OpenAI did not answer"), ("current", "OpenAI did not answer"), ("accepts", "smoke")],
)
def test_an_issuer_that_is_down_leaves_the_old_value_in_use(rotation: Rotation, call: str, text: str) -> None:
    old = rotation.store.get(KEY)
    rotation.issuer(KEY).failing(**{call: "down"})
    done = rotation.rotate(KEY)
    assert done.returncode in (ExitCode.FAILED, ExitCode.ROLLED_BACK), done.stdout
    assert text in said(done)
    rotation.issuer(KEY).failing()
    as_before(rotation, KEY, old)


def test_functions_that_can_not_be_set_leave_the_old_value_in_use(rotation: Rotation) -> None:
    old = rotation.store.get(KEY)
    (rotation.home / "functions.fails").touch()
    done = rotation.rotate(KEY)
    assert done.returncode == ExitCode.FAILED, done.stdout
    assert "the API answered 503" in said(done)
    assert "New ones may still be valid at their issuers: openai-api-key (called icupa-test-rotate-" in said(
        done
    )
    assert rotation.store.get(KEY) == old
    assert old in {key["value"] for key in rotation.issuer(KEY).keys().values()}
    (rotation.home / "functions.fails").unlink()
    again = rotation.rotate(KEY)
    assert again.returncode == ExitCode.ROLLED_BACK, again.stdout
    as_before(rotation, KEY, old)


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("openai-api-kye", "did you mean openai-api-key"),
        ("openai-api-kye,redis-pasword", "did you mean redis-password"),
        ("slack-token", "slack-token has no value yet"),
        ("postgres-app-password,tsig-acme", "tsig-acme: issuer test makes no value"),
    ],
)
def test_what_can_not_be_rotated_is_refused_before_anything_is_touched(
    rotation: Rotation, secret: str, text: str
) -> None:
    done = rotation.rotate(secret)
    assert done.returncode == ExitCode.FAILED, done.stdout
    assert text in said(done), done.stdout
    assert rotation.actions() == []
    assert rotation.record.state().lock is None


def test_nothing_is_due_of_what_is_young(rotation: Rotation) -> None:
    done = rotation.rotate("due")
    assert done.returncode == ExitCode.OK, done.stdout
    assert "nothing to rotate" in said(done)
    assert rotation.actions() == []
    assert messages(rotation) == []


def test_a_dry_run_prints_the_plan_and_changes_nothing(rotation: Rotation) -> None:
    events, version = rotation.record.last_event(), rotation.store.version()
    containers = [host.containers() for host in rotation.hosts()]
    done = rotation.rotate("all", "--check")
    assert done.returncode == ExitCode.OK, done.stdout
    told = said(done)
    assert "openai-api-key, 0 d old: replaced, the old one revoked" in told
    assert "primary: the service in green, at sha256:111111111111 (slot)" in told
    assert "standby: oauth2-proxy (beside)" in told
    assert "primary: prometheus (anew)" in told
    assert "tsig-acme: issuer test makes no value" in told
    assert (rotation.record.last_event(), rotation.store.version()) == (events, version)
    assert [host.containers() for host in rotation.hosts()] == containers
    assert rotation.functions() == {}


def test_another_command_does_not_run_over_what_one_has_left(rotation: Rotation) -> None:
    rotation.issuer(KEY).failing(create="down", labelled="down")
    assert rotation.rotate(KEY).returncode == ExitCode.FAILED
    assert list(rotation.record.state().rotations) == [KEY]
    done = rotation.rotate(METRICS)
    assert done.returncode == ExitCode.FAILED, done.stdout
    assert "end it first, -e secret=openai-api-key" in said(done)
    rotation.issuer(KEY).failing()
    assert rotation.rotate(KEY).returncode == ExitCode.ROLLED_BACK
    assert rotation.rotate(METRICS).returncode == ExitCode.OK


KILLED = 6
"""Runs that are killed, of each kind."""


@pytest.fixture(scope="module")
def steps_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Step]]:
    """Steps of a rotation that nobody kills."""

    @cache
    def traced(secret: str) -> list[Step]:
        with pytest.MonkeyPatch.context() as patched:
            made = prepared(tmp_path_factory.mktemp("traced"), patched)
            return trace(made.command(PLAYBOOK, *made.options(secret)), made.environment)

    return traced


@pytest.mark.parametrize("part", range(KILLED))
@pytest.mark.parametrize("secret", [KEY, METRICS])
def test_killed_after_a_step_the_same_command_ends_it(
    rotation: Rotation, steps_of: Callable[[str], list[Step]], secret: str, part: int
) -> None:
    old, steps = rotation.store.get(secret), steps_of(secret)
    command = rotation.command(PLAYBOOK, *rotation.options(secret))
    kill_after(spread(steps, KILLED)[part], command, rotation.environment)
    # Whatever it left: what the store gives is valid, and so is what the hosts have that serve.
    valid = [key["value"] for key in rotation.issuer(secret).keys().values()]
    assert rotation.store.get(secret) in valid
    for host in rotation.hosts():
        slot = rotation.record.state().host(host.name).active_slot
        assert any(host.has(f"agents-{slot}", value) for value in valid)
    again = rotation.rotate(secret)
    assert again.returncode == ExitCode.OK, again.stdout
    services = ("agents",) if secret == KEY else ("agents", "prometheus")
    assert in_use(rotation, secret, services) != old
    assert rotation.lost() == ""
    assert rotation.record.verify().ok


@pytest.mark.parametrize("part", range(KILLED))
def test_killed_after_a_step_databases_accept_what_serves(
    rotation: Rotation, steps_of: Callable[[str], list[Step]], part: int
) -> None:
    old, steps = rotation.store.get(POSTGRES), steps_of(POSTGRES)
    command = rotation.command(PLAYBOOK, *rotation.options(POSTGRES))
    kill_after(spread(steps, KILLED)[part], command, rotation.environment)
    for host in rotation.hosts():
        slot = rotation.record.state().host(host.name).active_slot
        given = host.containers()[f"agents-{slot}"]["given"]
        logins = host.databases()["postgres"].items()
        assert any(f"DATABASE_USER={role}\n" in given and password in given for role, password in logins)
    again = rotation.rotate(POSTGRES)
    assert again.returncode == ExitCode.OK, again.stdout
    accepted(rotation)
    assert rotation.store.get(POSTGRES) != old
    assert rotation.lost() == ""
