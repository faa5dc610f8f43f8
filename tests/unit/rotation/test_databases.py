"""Which passwords the databases of a host must accept, of what the program renders and the journal says."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.config.load import load_file
from infra.paths import REPOSITORY
from infra.record import Rotation, RotationPhase
from infra.record.model import now
from infra.rotation.databases import APP_PASSWORD, REDIS_PASSWORD, SECRETS, login, needed, passwords, shared
from infra.runtimes.compose import render
from infra.secrets import references
from infra.services.context import Context
from infra.services.topology import topology

VALUES = {name: f"value-of-{name}" for name in SECRETS}


def resolve(text: str) -> str:
    return references.resolve(text, VALUES.__getitem__)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    stack = load_file("local")
    machine = stack.hosts.machines[0]
    services = topology(Context("local", stack, machine.region, machine.role))
    rendered: dict[str, Any] = dict(render(services, {name: f"registry/{name}" for name in services.images}))
    return rendered


def rotation(phase: RotationPhase) -> Rotation:
    return Rotation(operation="rotate-1", phase=phase, label="label", started_at=now())


def test_the_service_logs_in_as_the_role_that_its_password_belongs_to(project: dict[str, Any]) -> None:
    environment = project["env_files"]["agents-service.env"]
    assert references.find(environment["DATABASE_USER"]) == (APP_PASSWORD,)
    wanted = passwords(project, resolve, {}, None)["postgres"]
    assert wanted["roles"][0] == {
        "name": resolve(environment["DATABASE_USER"]),
        "password": resolve(environment["DATABASE_PASSWORD"]),
        "member_of": project["compose"]["services"]["postgres"]["environment"]["POSTGRES_APP"],
    }
    migrates = project["compose"]["services"]["migrate-blue"]["environment"]
    assert migrates["DATABASE_USER"] == wanted["roles"][0]["member_of"], (
        "rights are given to the role of both"
    )


def test_every_password_that_a_database_is_given_is_one_that_it_is_told(project: dict[str, Any]) -> None:
    live = {
        name
        for file in project["files"]
        if file["path"].startswith(("secrets/postgres/", "secrets/redis/"))
        for name in references.find(file["content"])
    }
    assert live == set(SECRETS) == set(needed(project))
    wanted = passwords(project, resolve, {}, ())
    told = {role["password"] for role in wanted["postgres"]["roles"]} | {wanted["redis"]["password"]}
    assert told == set(VALUES.values())


def test_a_database_is_not_made_anew_for_another_password(project: dict[str, Any]) -> None:
    for name in ("postgres", "redis"):
        mounts = project["compose"]["services"][name]["volumes"]
        (secrets,) = [mount for mount in mounts if mount["target"] == "/run/secrets"]
        assert secrets["source"] == f"./secrets/{name}"
        (directory,) = [each for each in project["directories"] if each["path"] == f"secrets/{name}"]
        user = int(project["compose"]["services"][name]["user"].split(":")[0])
        assert (directory["mode"], directory["uid"]) == (0o700, user), "only its user may look into it"


def test_old_ones_stay_until_nobody_is_to_keep_them(project: dict[str, Any]) -> None:
    mine = login(VALUES[APP_PASSWORD])
    other = {"agents_a": "agents_b", "agents_b": "agents_a"}[mine]
    kept = passwords(project, resolve, {REDIS_PASSWORD: ["old"]}, None)
    assert (kept["postgres"]["retired"], kept["redis"]["alone"]) == ([], False)
    assert kept["redis"]["known"] == ["old"]
    alone = passwords(project, resolve, {}, ())
    assert (alone["postgres"]["retired"], alone["redis"]["alone"]) == ([other, "agents"], True)
    one = passwords(project, resolve, {}, (APP_PASSWORD,))
    assert (one["postgres"]["retired"], one["redis"]["alone"]) == ([], True)


@pytest.mark.parametrize("phase", RotationPhase)
def test_during_a_rotation_two_are_valid_until_the_old_one_is_revoked(phase: RotationPhase) -> None:
    rotations = {APP_PASSWORD: rotation(phase), "openai-api-key": rotation(phase)}
    wanted = () if phase is RotationPhase.REVOKED else (APP_PASSWORD,)
    assert shared(rotations, ending=False) == wanted
    assert shared(rotations, ending=True) == ()
    assert shared({}, ending=False) == ()


def test_a_project_without_databases_is_told_nothing() -> None:
    bare: dict[str, Any] = {"compose": {"services": {"agents": {}}}}
    assert needed(bare) == ()
    assert passwords(bare, resolve, {}, ()) == {}


def test_images_and_the_program_agree_on_sides() -> None:
    text = (REPOSITORY / "images" / "postgres" / "entrypoint").read_text()
    assert "if ((16#${sum:0:1} % 2)); then login=${app}_b; else login=${app}_a; fi" in text
    for value in ("app-old", "app-new", "app-third", *VALUES.values()):
        odd = int(hashlib.sha256(value.encode()).hexdigest()[0], 16) % 2
        assert references.side(value) == ("b" if odd else "a")
    assert {references.side(str(number)) for number in range(9)} == {"a", "b"}


# --- the start of Redis


def started(home: Path, password: str) -> tuple[str, str]:
    """Arguments of the server, and its file of users, after a start."""
    (home / "password").write_text(password)
    server = home / "redis-server"
    server.write_text('#!/bin/bash\necho "$@"\n')
    server.chmod(0o755)
    users = home / "users.acl"
    done = subprocess.run(
        ["/bin/bash", str(REPOSITORY / "images" / "redis" / "entrypoint")],
        env={
            "PATH": f"{home}:/usr/bin:/bin",
            "REDIS_PASSWORD_FILE": str(home / "password"),
            "REDIS_USERS_FILE": str(users),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert users.stat().st_mode & 0o777 == 0o600
    return done.stdout.strip(), users.read_text()


def test_redis_starts_with_its_password_and_those_that_it_had(tmp_path: Path) -> None:
    first, second = (hashlib.sha256(each.encode()).hexdigest() for each in ("first", "second"))
    arguments, users = started(tmp_path, "first")
    assert arguments == "/etc/redis/redis.conf"
    assert users == f"user default on sanitize-payload #{first} ~* &* +@all\n"
    for _ in range(2):
        _, users = started(tmp_path, "second")
        assert users == f"user default on sanitize-payload #{second} #{first} ~* &* +@all\n"
    conf = (REPOSITORY / "images" / "redis" / "redis.conf").read_text()
    assert "aclfile /var/lib/redis/users.acl" in conf
