"""One look at a host: images, the project's directory, and what runs; nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ansible.conftest import load_plugin

module = load_plugin("modules", "release_look")
IMAGE = "registry.example/icupa/agents-service"
DIGEST = f"sha256:{'a' * 64}"


class Host:
    """Programs that answer from files, and write down what they were asked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "project"
        self.root.mkdir()
        self.set("image.json", [{"Id": "i1", "RepoDigests": [f"{IMAGE}@{DIGEST}"], "Config": {}}])
        self.set("container.json", [self.container("web", "w1"), self.container("other", "o1", project="x")])
        self.unit("active")
        tools = home / "bin"
        tools.mkdir()
        docker = f"""#!/bin/sh
echo "$@" >>{home}/asked
case "$1 $2" in
"image ls"|"ps --all") echo some;;
*) cat {home}/$1.json;;
esac
"""
        for name, text in (("docker", docker), ("systemctl", f"#!/bin/sh\ncat {home}/unit\n")):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)

    @staticmethod
    def container(service: str, configuration: str, project: str = "agents", **state: Any) -> dict[str, Any]:
        labels = {
            "com.docker.compose.project": project,
            "com.docker.compose.oneoff": "False",
            "com.docker.compose.service": service,
            "dev.icupa.configuration": configuration,
        }
        said = {"Status": "running", "Health": {"Status": "healthy"}, "ExitCode": 0, **state}
        name = f"/{project}-{service}-1"
        return {"Id": name, "Name": name, "Image": "i1", "Config": {"Labels": labels}, "State": said}

    def set(self, name: str, content: Any) -> None:
        (self.home / name).write_text(json.dumps(content))

    def unit(self, state: str) -> None:
        (self.home / "unit").write_text(f"ActiveState={state}\nUnitFileState=enabled\nNeedDaemonReload=no\n")

    def look(self, *files: str) -> dict[str, Any]:
        found: dict[str, Any] = module.look(
            {
                "repository": IMAGE,
                "project": "agents",
                "unit": "agents.service",
                "root": str(self.root),
                "directories": ["data"],
                "files": [".env", *files],
                "services": {"web": {"configuration": "w1", "job": False}},
                "idle": ["web-idle"],
            }
        )
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return found


def test_everything_is_seen_with_four_questions_to_the_engine(host: Host) -> None:
    found = host.look()
    assert (found["reasons"], found["ready"]) == ([], True)
    (image,) = found["images"]
    assert (image["digest"], image["containers"]) == (DIGEST, ["agents-web-1", "x-other-1"])
    assert len((host.home / "asked").read_text().splitlines()) == 4
    assert list(host.root.iterdir()) == [], "it was only looked at"


@pytest.mark.parametrize(
    ("state", "reasons"),
    [
        ({"Health": {"Status": "starting"}}, []),
        ({"Health": {"Status": "unhealthy"}}, ["web is unhealthy"]),
        ({"Status": "exited"}, ["web is exited"]),
    ],
    ids=["starting", "unhealthy", "ended"],
)
def test_what_is_not_healthy_is_not_ready(host: Host, state: dict[str, Any], reasons: list[str]) -> None:
    host.set("container.json", [host.container("web", "w1", **state)])
    found = host.look()
    assert (found["reasons"], found["ready"]) == (reasons, False)


def test_what_is_outdated_or_too_much_is_named_with_the_unit(host: Host) -> None:
    host.set("container.json", [host.container("web", "w0"), host.container("old", "o1")])
    host.unit("inactive")
    assert host.look()["reasons"] == [
        "agents.service is not active",
        "old is not part of the project any more",
        "web has an outdated configuration",
    ]


def test_a_project_that_can_not_be_written_is_told_before_anything_is(host: Host) -> None:
    (host.root / "link").symlink_to("/etc")
    with pytest.raises(module.FilesError, match="is a symbolic link: refusing to write through it"):
        host.look("link/passwd")
    (host.root / "link").unlink()
    (host.root / "data").write_text("")
    with pytest.raises(module.FilesError, match="exists and is not a directory"):
        host.look()
