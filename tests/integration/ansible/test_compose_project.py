"""The module that converges a Compose project: what it finds wrong, and what it then does."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ansible.conftest import load_plugin

module = load_plugin("modules", "compose_project")
seen = load_plugin("module_utils", "containers")
SERVICES = {
    "web": {"configuration": "w1", "job": False},
    "migrate": {"configuration": "m1", "job": True},
}


def container(service: str, configuration: str, status: str = "running", **more: Any) -> Any:
    values = {"health": "healthy" if status == "running" else "", "exit_code": 0, **more}
    return seen.Container(
        id=f"id-{service}", service=service, configuration=configuration, status=status, **values
    )


FIT = [container("web", "w1"), container("migrate", "m1", "exited")]


def test_finds_nothing_wrong_with_a_fit_project() -> None:
    assert module.unfit(SERVICES, ["green"], FIT, ready=True) == {}


@pytest.mark.parametrize(
    ("containers", "wrong"),
    [
        ([FIT[1]], {"web": "has no container"}),
        ([container("web", "w0"), FIT[1]], {"web": "has an outdated configuration"}),
        ([container("web", "w1", "exited"), FIT[1]], {"web": "is exited"}),
        ([container("web", "w1", "restarting"), FIT[1]], {"web": "is restarting"}),
        ([container("web", "w1", health="unhealthy"), FIT[1]], {"web": "is unhealthy"}),
        ([FIT[0], container("migrate", "m1", "exited", exit_code=1)],
         {"migrate": "has not ended well (exited, exit code 1)"}),
        ([FIT[0], container("migrate", "m1")], {"migrate": "has not ended well (running, exit code 0)"}),
        ([*FIT, container("old", "o1")], {"old": "is not part of the project any more"}),
    ],
)  # fmt: skip
def test_names_what_is_wrong(containers: list[Any], wrong: dict[str, str]) -> None:
    assert module.unfit(SERVICES, ["green"], containers, ready=False) == wrong


def test_the_idle_slot_may_run_until_it_is_retired() -> None:
    assert module.unfit(SERVICES, ["green"], [*FIT, container("green", "g1")], ready=True) == {}


def test_starting_is_fit_but_not_ready() -> None:
    starting = [container("web", "w1", health="starting"), FIT[1]]
    assert module.unfit(SERVICES, [], starting, ready=False) == {}
    assert module.unfit(SERVICES, [], starting, ready=True) == {"web": "is starting"}


@dataclass
class Call:
    """What AnsibleModule is to the functions under test."""

    params: dict[str, Any]
    check_mode: bool = False


@dataclass
class World:
    """`docker` and `systemctl` that write down what they are asked, in a directory of the test's own."""

    directory: Path
    unit: dict[str, str] = field(default_factory=dict)

    def containers(self, *found: dict[str, Any]) -> None:
        (self.directory / "containers.json").write_text(json.dumps(list(found)))

    def asked(self) -> list[str]:
        path = self.directory / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def property(self, name: str, value: str) -> None:
        self.unit[name] = value
        lines = [f"{name}={value}\n" for name, value in self.unit.items()]
        (self.directory / "properties").write_text("".join(lines))


def inspected(service: str, configuration: str, status: str, health: str = "healthy") -> dict[str, Any]:
    return {
        "Id": service,
        "Config": {"Labels": {"com.docker.compose.service": service, seen.LABEL: configuration}},
        "State": {"Status": status, "Health": {"Status": health}, "ExitCode": 0},
    }


RUNNING = (inspected("web", "w1", "running"), inspected("migrate", "m1", "exited"))


@pytest.fixture
def fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File of the highest token seen."""
    file = tmp_path / "fence"
    fenced = load_plugin("module_utils", "fence").fenced
    monkeypatch.setattr(module, "fenced", lambda token: fenced(token, str(file), 0.3))
    return file


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    tools = tmp_path / "bin"
    tools.mkdir()
    log = f'echo "$(basename $0) $@" >>{tmp_path}/asked'
    docker = f"""#!/bin/sh
case "$1 $2" in
compose*)
    {log}
    env >{tmp_path}/environment
    readlink /proc/$$/fd/* >{tmp_path}/descriptors
    [ ! -e {tmp_path}/fail ] && cp {tmp_path}/after.json {tmp_path}/containers.json
    ;;
wait*) {log}; cat {tmp_path}/code 2>/dev/null || echo 0;;
"ps --all") if grep -q Id {tmp_path}/containers.json; then echo some; fi;;
inspect*) cat {tmp_path}/containers.json;;
"image inspect") {log}; [ -e {tmp_path}/pulled ];;
pull*) {log}; touch {tmp_path}/pulled;;
*) {log}; echo "a line of its log";;
esac
"""
    systemctl = f"""#!/bin/sh
case "$1" in
show) cat {tmp_path}/properties;;
start|reload) {log}; [ ! -e {tmp_path}/fail ] && cp {tmp_path}/after.json {tmp_path}/containers.json;;
*) {log};;
esac
"""
    for name, text in (
        ("docker", docker),
        ("systemctl", systemctl),
        ("journalctl", "#!/bin/sh\necho why it failed\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    (tmp_path / "after.json").write_text(json.dumps(RUNNING))
    found = World(tmp_path)
    found.containers()
    for name, value in {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "FragmentPath": "/etc/systemd/system/x.service",
    }.items():
        found.property(name, value)
    return found


def call(*, check: bool = False, **changes: Any) -> Call:
    parameters = {
        "project": "agents-service",
        "unit": "agents-service.service",
        "services": SERVICES,
        "idle": ["green"],
        "images": ["registry/web@sha256:1"],
        "docker_config": None,
        "root": ".",
        "timeout": 1,
        "fence": 0,
        "awaited": [],
        "alone": False,
        **changes,
    }
    return Call(parameters, check)


def test_a_fit_project_is_left_alone(world: World) -> None:
    world.containers(*RUNNING)
    assert module.start(call(), module.Docker(None)) == {"changed": False, "reasons": []}
    assert world.asked() == []


def test_a_bare_host_is_pulled_enabled_and_started(world: World) -> None:
    world.property("ActiveState", "inactive")
    world.property("UnitFileState", "disabled")
    result = module.start(call(), module.Docker(None))
    assert result["changed"]
    assert result["pulled"] == ["registry/web@sha256:1"]
    assert "web has no container" in result["reasons"]
    assert world.asked() == [
        "docker image inspect --format {{.Id}} registry/web@sha256:1",
        "docker pull --quiet registry/web@sha256:1",
        "systemctl enable agents-service.service",
        "systemctl start agents-service.service",
    ]


def test_an_outdated_container_is_converged_by_a_reload(world: World) -> None:
    world.containers(inspected("web", "w0", "running"), RUNNING[1])
    result = module.start(call(images=[]), module.Docker(None))
    assert result["reasons"] == ["web has an outdated configuration"]
    assert world.asked() == ["systemctl reload agents-service.service"]


def test_a_reload_that_is_under_way_is_followed_by_another(world: World) -> None:
    world.property("ActiveState", "reloading")
    world.containers(*RUNNING)
    assert not module.start(call(), module.Docker(None))["changed"]
    world.containers(inspected("web", "w0", "running"), RUNNING[1])
    module.start(call(images=[]), module.Docker(None))
    assert world.asked() == ["systemctl reload agents-service.service"]


NEW = {
    **SERVICES,
    "green": {"configuration": "g1", "job": False},
    "migrate-green": {"configuration": "n1", "job": True},
}
NEW_RUNNING = (*RUNNING, inspected("green", "g1", "running"), inspected("migrate-green", "n1", "exited"))
CREATE = "docker compose --progress quiet --project-directory {} create green migrate-green"
STARTED = ["docker start migrate-green", "docker wait migrate-green", "docker start green"]


def beside(world: World, **changes: Any) -> dict[str, Any]:
    """Start a second slot beside what serves."""
    (world.directory / "after.json").write_text(json.dumps(NEW_RUNNING))
    parameters = {"images": [], "idle": [], "awaited": ["migrate-green", "green"], "services": NEW, **changes}
    found: dict[str, Any] = module.start(
        call(root=str(world.directory), **parameters), module.Docker("/a/login")
    )
    return found


def test_a_slot_is_brought_up_without_running_the_jobs_of_the_other_again(world: World) -> None:
    world.containers(*RUNNING)
    assert beside(world)["reasons"] == ["green has no container", "migrate-green has no container"]
    assert world.asked() == [CREATE.format(world.directory), *STARTED]
    assert "DOCKER_CONFIG=/a/login" in (world.directory / "environment").read_text().splitlines()
    # Also while its module is no more.
    assert str(world.directory) in (world.directory / "descriptors").read_text().splitlines()


@pytest.mark.parametrize(
    "found",
    [(RUNNING[0],), (inspected("web", "w0", "running"), RUNNING[1]),
     (*RUNNING, inspected("old", "o1", "running")),
     (inspected("web", "w1", "running", "starting"), RUNNING[1])],
)  # fmt: skip
def test_where_more_is_wrong_the_unit_brings_up_all(world: World, found: tuple[dict[str, Any], ...]) -> None:
    world.containers(*found)
    beside(world)
    assert world.asked() == ["systemctl reload agents-service.service"]


@pytest.mark.parametrize(
    "found",
    [(inspected("web", "w0", "running"), RUNNING[1]), (inspected("web", "w1", "exited"), RUNNING[1])],
    ids=["outdated", "ended"],
)
def test_what_serves_is_left_as_it_is_where_the_slot_is_brought_up_alone(
    world: World, found: tuple[dict[str, Any], ...]
) -> None:
    world.property("ActiveState", "reloading")
    world.containers(*found)
    assert beside(world, alone=True)["reasons"] == [
        "green has no container",
        "migrate-green has no container",
    ]
    assert world.asked() == [CREATE.format(world.directory), *STARTED]
    world.containers(*found, *NEW_RUNNING[2:])
    assert not beside(world, alone=True)["changed"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ActiveState", "reloading"), ("ActiveState", "failed"), ("UnitFileState", "disabled")],
)
def test_a_unit_that_is_not_just_up_brings_up_all(world: World, name: str, value: str) -> None:
    world.containers(*RUNNING)
    world.property(name, value)
    beside(world)
    assert [line for line in world.asked() if line.startswith("docker")] == []


def test_a_slot_that_does_not_come_up_says_why(world: World) -> None:
    world.containers(*RUNNING)
    (world.directory / "fail").touch()
    docker = world.directory / "bin" / "docker"
    docker.write_text(docker.read_text().replace("compose*)", "compose*) echo migrate-green: exit 1 >&2"))
    with pytest.raises(
        module.ConvergeError,
        match=r"(?s)docker compose create failed:\nmigrate-green: exit 1\ngreen has no container",
    ):
        beside(world)


def test_a_slot_is_not_started_where_its_job_failed(world: World) -> None:
    world.containers(*RUNNING)
    (world.directory / "code").write_text("3\n")
    with pytest.raises(module.ConvergeError, match="migrate-green failed with exit code 3"):
        beside(world)
    assert "docker start green" not in world.asked()


def test_a_slot_that_hangs_is_given_up_with_all_its_processes(world: World) -> None:
    world.containers(*RUNNING)
    docker = world.directory / "bin" / "docker"
    child = world.directory / "child"
    docker.write_text(docker.read_text().replace("compose*)", f"compose*) sleep 60 & echo $! >{child}; wait"))
    began = time.monotonic()
    with pytest.raises(module.ConvergeError, match="docker compose create did not end in time"):
        beside(world)
    assert time.monotonic() - began < 10
    status = Path(f"/proc/{child.read_text().strip()}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_run_whose_module_was_killed_ends_before_the_next_begins(world: World) -> None:
    world.containers(*RUNNING)
    with subprocess.Popen(["flock", "--no-fork", str(world.directory), "sleep", "0.6"]) as earlier:
        while not module_waits(world.directory):
            time.sleep(0.01)
        beside(world, timeout=10)
        assert earlier.poll() is not None
    assert world.asked() == [CREATE.format(world.directory), *STARTED]
    with subprocess.Popen(["flock", "--no-fork", str(world.directory), "sleep", "60"]) as earlier:
        while not module_waits(world.directory):
            time.sleep(0.01)
        world.containers(*RUNNING)
        with pytest.raises(module.ConvergeError, match="an earlier run does not end"):
            beside(world, timeout=1)
        earlier.kill()


def module_waits(directory: Path) -> bool:
    """Whether a run of the module would have to wait for another's."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_images_are_asked_for_at_once_and_pulled_where_missing(world: World) -> None:
    both = ["registry/web@sha256:1", "registry/db@sha256:2"]
    (world.directory / "pulled").touch()
    asking = f"docker image inspect --format {{{{.Id}}}} {' '.join(both)}"
    assert module.start(call(images=both), module.Docker(None))["pulled"] == []
    assert [line for line in world.asked() if line.startswith("docker")] == [asking]
    docker = world.directory / "bin" / "docker"
    # It has all but the second.
    has = f"[ -e {world.directory}/pulled ]"
    docker.write_text(docker.read_text().replace(has, '[ "$*" = "${*#*db}" ]'))
    world.containers()
    assert module.start(call(images=both), module.Docker(None))["pulled"] == both[1:]
    assert [line for line in world.asked() if " pull " in line] == [f"docker pull --quiet {both[1]}"]


def test_a_changed_unit_is_read_again(world: World) -> None:
    world.containers(*RUNNING)
    world.property("NeedDaemonReload", "yes")
    assert module.start(call(images=[]), module.Docker(None))["changed"]
    assert world.asked()[0] == "systemctl daemon-reload"


def test_a_dry_run_says_why_and_does_nothing(world: World) -> None:
    result = module.start(call(check=True), module.Docker(None))
    assert result["changed"]
    assert "migrate has no container" in result["reasons"]
    assert world.asked() == []


def test_what_does_not_become_healthy_fails_with_its_log(world: World) -> None:
    (world.directory / "after.json").write_text(
        json.dumps([inspected("web", "w1", "running", "starting"), RUNNING[1]])
    )
    with pytest.raises(
        module.ConvergeError, match=r"(?s)not healthy after 1 s:.*web is starting.*a line of its log"
    ):
        module.start(call(images=[]), module.Docker(None))


def test_a_unit_that_fails_says_why(world: World) -> None:
    (world.directory / "fail").touch()
    with pytest.raises(module.ConvergeError, match=r"(?s)why it failed.*web has no container"):
        module.start(call(images=[]), module.Docker(None))


def test_retires_the_idle_slot_only(world: World) -> None:
    world.containers(*RUNNING, inspected("green", "g1", "running"))
    result = module.retire(call(), module.Docker(None))
    assert result["changed"]
    assert world.asked() == ["docker stop green", "docker rm --volumes green"]


def test_one_that_was_never_ready_is_not_waited_for(world: World) -> None:
    world.containers(*RUNNING, inspected("green", "g1", "running", "starting"))
    module.retire(call(), module.Docker(None))
    assert world.asked() == ["docker stop --time 2 green", "docker rm --volumes green"]


def test_what_ended_by_itself_is_removed(world: World) -> None:
    world.containers(*RUNNING, inspected("green", "g1", "exited"))
    assert module.retire(call(), module.Docker(None))["changed"]
    assert world.asked() == ["docker rm --volumes green"]


def test_retires_nothing_twice(world: World) -> None:
    world.containers(*RUNNING)
    assert not module.retire(call(), module.Docker(None))["changed"]
    assert world.asked() == []


def test_a_dry_run_retires_nothing(world: World) -> None:
    world.containers(*RUNNING, inspected("green", "g1", "running"))
    assert module.retire(call(check=True), module.Docker(None))["changed"]
    assert world.asked() == []


def test_an_operation_that_came_too_late_changes_nothing(world: World, fence: Path) -> None:
    fence.write_text("8\n")
    world.containers(*RUNNING, inspected("green", "g1", "running"))
    with pytest.raises(module.FencedError, match="token 8 has changed this host; this one has 7"):
        module.retire(call(fence=7), module.Docker(None))
    world.containers()
    with pytest.raises(module.FencedError, match="this one has 7"):
        module.start(call(fence=7, images=[]), module.Docker(None))
    assert world.asked() == []


def test_a_service_that_ends_again_and_again_is_not_waited_for(world: World) -> None:
    restarting = inspected("web", "w1", "restarting", "starting") | {"RestartCount": 4}
    world.containers(inspected("web", "w1", "running", "starting") | {"RestartCount": 1}, RUNNING[1])
    asked = iter([[restarting, RUNNING[1]]] * 100)

    class Restarting(module.Docker):  # type: ignore[misc, name-defined]
        def containers(self, project: str) -> list[Any]:
            found: list[Any] = super().containers(project)
            world.containers(*next(asked))
            return found

    with pytest.raises(module.ConvergeError, match="web ends again and again"):
        module.start(call(timeout=60), Restarting(None))


def test_a_reload_that_hangs_is_ended(world: World) -> None:
    systemctl = world.directory / "bin" / "systemctl"
    systemctl.write_text(systemctl.read_text().replace("start|reload)", "start|reload) sleep 60;;\nnever)"))
    with pytest.raises(module.ConvergeError, match="did not end within 1 s"):
        module.start(call(images=[]), module.Docker(None))
    assert world.asked() == ["systemctl kill --kill-whom=control --signal=KILL agents-service.service"]


def checked(*exit_codes: int) -> list[dict[str, Any]]:
    """Health checks, a second apart, the last one just now."""
    began = time.time() - len(exit_codes) + 1
    return [
        {"Start": datetime.fromtimestamp(began + n, UTC).isoformat(), "ExitCode": code}
        for n, code in enumerate(exit_codes)
    ]


@pytest.mark.parametrize(
    ("exit_codes", "seconds"), [((), None), ((0, 1), None), ((1, 0, 0), 1), ((0, 0, 0, 0), 3)]
)
def test_healthy_since_the_last_bad_check(exit_codes: tuple[int, ...], seconds: int | None) -> None:
    since = seen.healthy_since(checked(*exit_codes))
    assert (since is None) == (seconds is None)
    if seconds is not None:
        assert time.time() - since == pytest.approx(seconds, abs=0.5)


def test_times_of_the_engine_are_understood() -> None:
    check = {"Start": "2026-01-02T03:04:05.123456789Z", "ExitCode": 0}
    assert seen.healthy_since([check]) == datetime(2026, 1, 2, 3, 4, 5, 123456, UTC).timestamp()


def test_steady_is_healthy_long_enough() -> None:
    now = time.time()
    steady = container("web", "w1", healthy_since=now - 5)
    fresh = container("web", "w1", healthy_since=now - 1)
    assert module.restless(["web"], [steady], 4) == {}
    assert list(module.restless(["web"], [fresh], 4)) == ["web"]
    assert list(module.restless(["web"], [container("web", "w1", health="starting")], 4)) == ["web"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "has no container"),
        ([container("web", "w1", restarts=1)], "did not stay up"),
        ([container("web", "w1", "exited")], "did not stay up"),
        ([container("web", "w1", health="unhealthy")], "became unhealthy"),
    ],
)
def test_what_will_not_be_steady_is_not_waited_for(found: list[Any], said: str) -> None:
    with pytest.raises(module.ConvergeError, match=said):
        module.restless(["web"], found, 4)


def test_watching_says_what_a_crashing_service_logged(world: World) -> None:
    world.containers(inspected("web", "w1", "running") | {"RestartCount": 1})
    only = {"web": SERVICES["web"]}
    with pytest.raises(module.ConvergeError, match=r"(?s)did not stay up.*a line of its log"):
        module.watch(call(services=only, seconds=4), module.Docker(None))


def test_only_what_is_awaited_must_become_healthy(world: World) -> None:
    """A release is replaced although it is ill itself."""
    ill = inspected("web", "w1", "running", "unhealthy")
    world.containers(ill)
    (world.directory / "after.json").write_text(json.dumps([ill, RUNNING[1]]))
    assert module.start(call(images=[], awaited=["migrate"]), module.Docker(None))["changed"]
    with pytest.raises(module.ConvergeError, match="web is unhealthy"):
        module.start(call(images=[]), module.Docker(None))


def numbered(name: str, configuration: str, health: str = "healthy") -> dict[str, Any]:
    return {**inspected("web", configuration, "running", health), "Id": name}


def replaced(world: World, *after: dict[str, Any], **changes: Any) -> dict[str, Any]:
    (world.directory / "after.json").write_text(json.dumps(after))
    given = call(root=str(world.directory), state="beside", awaited=["web"], **changes)
    found: dict[str, Any] = module.replace_beside(given, module.Docker(None))
    return found


def test_a_second_container_is_healthy_before_the_first_one_ends(world: World) -> None:
    world.containers(numbered("web-1", "w0"), RUNNING[1])
    found = replaced(world, numbered("web-1", "w0"), numbered("web-2", "w1"), RUNNING[1])
    assert found == {"changed": True, "reasons": ["web has an outdated configuration"]}
    assert world.asked() == [
        f"docker compose --progress quiet --project-directory {world.directory}"
        " up --detach --no-recreate --scale web=2 web",
        "docker stop web-1",
        "docker rm --volumes web-1",
    ]


def test_a_second_container_that_is_not_healthy_goes_and_the_first_one_stays(world: World) -> None:
    world.containers(numbered("web-1", "w0"))
    with pytest.raises(module.ConvergeError, match=r"(?s)not healthy after 1 s:\nweb is starting.*its log"):
        replaced(world, numbered("web-1", "w0"), numbered("web-2", "w1", "starting"))
    assert "docker rm --force --volumes web-2" in world.asked()
    assert not any("web-1" in line for line in world.asked())


def test_what_a_killed_run_left_is_ended_without_a_third_one(world: World) -> None:
    world.containers(numbered("web-1", "w0"), numbered("web-2", "w1"))
    assert replaced(world)["changed"]
    assert world.asked() == ["docker stop web-1", "docker rm --volumes web-1"]


def test_one_that_is_as_it_must_be_is_not_replaced(world: World) -> None:
    world.containers(*RUNNING)
    assert replaced(world) == {"changed": False, "reasons": []}
    world.containers(numbered("web-1", "w0"))
    assert replaced(world, check=True)["changed"]
    assert world.asked() == []
