"""The modules on a host: images that stay and go, pulls that go on, commands that end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ansible.conftest import load_plugin
from tests.unit.release.conftest import IMAGE

images = load_plugin("modules", "release_images")
command = load_plugin("modules", "release_command")
ENGINE = Path(__file__).parent / "engine.py"
A, B, C, D = (f"sha256:{letter * 64}" for letter in "abcd")
OTHER = "registry.example/icupa/agents-service-other"


@dataclass
class Call:
    """What AnsibleModule is to the functions under test."""

    params: dict[str, Any]
    check_mode: bool = False


@dataclass
class Host:
    """A host with an engine that is a file."""

    directory: Path

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        return found

    def set(self, **changes: Any) -> None:
        (self.directory / "state.json").write_text(json.dumps({**self.state, **changes}))

    def references(self) -> list[str]:
        return sorted(
            name for image in self.state["images"] for name in image["RepoDigests"] + image["RepoTags"]
        )

    def await_log(self, unit: str, text: str) -> None:
        log = self.directory / f"{unit}.log"
        deadline = time.monotonic() + 10
        while not (log.exists() and text in log.read_text()):
            assert time.monotonic() < deadline, "the pull printed nothing"
            time.sleep(0.02)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("docker", "systemd-run", "systemctl"):
        (tools / name).write_text(f"#!{sys.executable}\n{ENGINE.read_text()}")
        (tools / name).chmod(0o755)
    (tmp_path / "state.json").write_text(
        json.dumps({"images": [], "containers": [], "asked": [], "script": ""})
    )
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(images, "LOGS", tmp_path)
    yield Host(tmp_path)
    (tmp_path / "go").write_text("the test is over")


def image(*names: str, labels: dict[str, str] | None = None, id: str = "") -> dict[str, Any]:  # noqa: A002
    return {
        "Id": id or f"id-{names[0]}",
        "RepoDigests": [name for name in names if "@" in name],
        "RepoTags": [name for name in names if "@" not in name],
        "Config": {"Labels": labels},
        "Size": 7,
    }


def call(check: bool = False, **parameters: Any) -> Call:
    defaults = {"repository": IMAGE, "docker_config": "/login", "patience": 0.3, "timeout": 60, "fence": 0}
    return Call({**defaults, **parameters}, check)


class TestRetention:
    def fill(self, host: Host) -> None:
        host.set(
            images=[
                image(f"{IMAGE}@{A}", f"{IMAGE}:latest", labels={"x": "y"}),
                image(f"{IMAGE}@{B}", f"{OTHER}:mine"),
                image(f"{IMAGE}@{C}"),
                image(f"{IMAGE}:loose"),
                image(f"{OTHER}@{D}"),
                image("registry.example/other/agents-service:1"),
            ],
            containers=[{"Image": f"id-{IMAGE}@{C}", "Name": "/agents-service-agents-blue-1"}],
        )

    def test_only_the_repository_is_listed(self, host: Host) -> None:
        self.fill(host)
        found = images.listed(IMAGE)
        assert [each["digest"] for each in found] == ["", A, B, C]
        assert found[1]["labels"] == {"x": "y"}
        assert found[3]["containers"] == ["agents-service-agents-blue-1"]

    def test_what_is_not_kept_goes_and_nothing_else(self, host: Host) -> None:
        self.fill(host)
        result = images.pruned(call(keep=[A]))
        assert result["removed"] == [f"{IMAGE}:loose", B]
        assert result["in_use"] == [C]
        assert host.references() == sorted(
            [
                f"{IMAGE}@{A}",
                f"{IMAGE}:latest",
                f"{OTHER}:mine",
                f"{IMAGE}@{C}",
                f"{OTHER}@{D}",
                "registry.example/other/agents-service:1",
            ]
        )
        assert images.pruned(call(keep=[A]))["changed"] is False

    def test_an_image_that_has_two_digests_stays_for_either(self, host: Host) -> None:
        host.set(images=[image(f"{IMAGE}@{A}", f"{IMAGE}@{B}")])
        assert images.pruned(call(keep=[B]))["changed"] is False
        assert host.references() == [f"{IMAGE}@{A}", f"{IMAGE}@{B}"]

    def test_a_dry_run_removes_nothing(self, host: Host) -> None:
        self.fill(host)
        before = host.references()
        assert images.pruned(call(check=True, keep=[]))["removed"] == [f"{IMAGE}:loose", A, B]
        assert host.references() == before

    def test_a_host_without_images_has_none(self, host: Host) -> None:
        assert images.listed(IMAGE) == []


class TestPull:
    UNIT = f"icupa-pull-{'a' * 12}"

    def test_what_is_there_is_not_pulled(self, host: Host) -> None:
        host.set(images=[image(f"{IMAGE}@{A}")])
        assert images.present(call(digest=A))["changed"] is False
        assert not [asked for asked in host.state["asked"] if asked[0] == "pull"]

    def test_a_pull_goes_on_between_calls(self, host: Host) -> None:
        first = images.present(call(digest=A))
        assert (first["changed"], first["done"]) == (True, False)
        host.await_log(self.UNIT, "aa: Pull complete")
        again = images.present(call(digest=A))
        assert again["progress"] == {"layers": 2, "complete": 1}
        (host.directory / "go").write_text("")
        last = images.present(call(digest=A, patience=10))
        assert (last["done"], last["images"][0]["digest"]) == (True, A)
        assert host.state["login"] == "/login"
        assert [asked for asked in host.state["asked"] if asked[0] == "pull"] == [["pull", f"{IMAGE}@{A}"]]
        assert not (host.directory / f"{self.UNIT}.log").exists()

    def test_a_pull_that_fails_says_why(self, host: Host) -> None:
        (host.directory / "go").write_text("manifest unknown")
        with pytest.raises(images.ImagesError, match=f"{IMAGE}@{A} can't be pulled: .*manifest unknown"):
            images.present(call(digest=A, patience=10))

    def test_a_dry_run_pulls_nothing(self, host: Host) -> None:
        assert images.present(call(check=True, digest=A))["changed"] is True
        assert not [asked for asked in host.state["asked"] if asked[0] == "pull"]


class TestCommand:
    def parameters(self, **more: Any) -> dict[str, Any]:
        return {
            "root": "/project",
            "container": "icupa-smoke",
            "service": "agents-green",
            "profile": "green",
            "command": ["smoke", "--all"],
            "variables": {"AGENTS_IMAGE_GREEN": f"{IMAGE}@{A}"},
            "environment": {"AGENTS_URL": "http://agents-green:8080"},
            "secrets": {"SMOKE_TOKEN": "a-secret-token"},
            "docker_config": "/login",
            "timeout": 30.0,
            "image": f"{IMAGE}@{A}",
            "inside": False,
            **more,
        }

    def test_it_is_run_as_the_service_would_be(self, host: Host) -> None:
        host.set(script="import os; print('token', os.environ['SMOKE_TOKEN']); raise SystemExit(3)")
        result = command.run(self.parameters())
        assert (result["rc"], result["stdout"], result["timed_out"]) == (3, "token ********\n", False)
        (asked,) = [asked for asked in host.state["asked"] if asked[0] == "compose"]
        assert asked == [
            *("compose", "--progress", "quiet", "--project-directory", "/project"),
            *("run", "--rm", "--no-deps", "--no-TTY", "--name", "icupa-smoke"),
            *("--env", "AGENTS_URL", "--env", "SMOKE_TOKEN", "agents-green", "smoke", "--all"),
        ]
        environment = host.state["environment"]
        assert environment["COMPOSE_PROFILES"] == "green"
        assert environment["AGENTS_IMAGE_GREEN"] == f"{IMAGE}@{A}"
        assert environment["DOCKER_CONFIG"] == "/login"
        assert host.state["asked"][-1] == ["rm", "--force", "--volumes", "icupa-smoke"]

    def test_one_that_does_not_end_is_ended(self, host: Host) -> None:
        host.set(script="import time; print('begun', flush=True); time.sleep(600)")
        started = time.monotonic()
        result = command.run(self.parameters(timeout=1.0))
        assert result["timed_out"]
        assert result["stdout"] == "begun\n"
        assert time.monotonic() - started < 10
        process = int((host.directory / "icupa-smoke.pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)

    def test_only_the_end_of_much_output_is_kept(self, host: Host) -> None:
        host.set(script="[print(number, 'x' * 90) for number in range(20000)]")
        said = command.run(self.parameters())["stdout"].splitlines()
        assert len("\n".join(said)) <= command.MOST_OUTPUT
        assert said[-1].startswith("19999 ")
        assert said[0].endswith(" " + "x" * 90)

    def slot(self, image: str) -> dict[str, Any]:
        return {"Name": "the-slot", "Config": {"Image": image, "Entrypoint": ["python", "-m", "app"]}}

    def test_it_is_run_in_the_container_that_runs_already(self, host: Host) -> None:
        host.set(
            script="import os; print('token', os.environ['SMOKE_TOKEN']); raise SystemExit(3)",
            containers=[self.slot(f"{IMAGE}@{A}")],
        )
        result = command.run(self.parameters(inside=True))
        assert (result["rc"], result["stdout"], result["timed_out"]) == (3, "token ********\n", False)
        asked = host.state["asked"]
        assert asked[0] == [
            *("ps", "--quiet", "--no-trunc"),
            *("--filter", "label=com.docker.compose.project.working_dir=/project"),
            *("--filter", "label=com.docker.compose.service=agents-green"),
            *("--filter", "label=com.docker.compose.oneoff=False"),
        ]
        assert asked[2:] == [
            ["exec", "--env", "ICUPA_COMMAND=icupa-smoke", "--env", "AGENTS_URL", "--env", "SMOKE_TOKEN",
             "the-slot", "python", "-m", "app", "smoke", "--all"],
        ]  # fmt: skip

    @pytest.mark.parametrize("other", [[], [f"{IMAGE}@{B}"], [f"{IMAGE}@{A}"] * 2])
    def test_it_is_not_run_in_another_release(self, host: Host, other: list[str]) -> None:
        host.set(containers=[self.slot(image) for image in other])
        assert command.run(self.parameters(inside=True))["rc"] == 0
        kinds = [asked[0] for asked in host.state["asked"]]
        assert "compose" in kinds
        assert "exec" not in kinds

    def test_one_that_does_not_end_there_is_ended_too(self, host: Host) -> None:
        host.set(
            script="import time; print('begun', flush=True); time.sleep(600)",
            containers=[self.slot(f"{IMAGE}@{A}")],
        )
        started = time.monotonic()
        result = command.run(self.parameters(inside=True, timeout=1.0))
        assert (result["timed_out"], result["stdout"]) == (True, "begun\n")
        assert time.monotonic() - started < 10
        process = int((host.directory / "icupa-smoke.pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
