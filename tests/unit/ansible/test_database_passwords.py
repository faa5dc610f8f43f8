"""Passwords of databases that serve: told to servers that write down what they are asked."""

from __future__ import annotations

import hashlib
import json
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.ansible.conftest import load_plugin

PROJECT = "agents-service"
OLD, NEW, OWNER = "c4n4ry-old", "c4n4ry-new", "c4n4ry-owner's"

# Docker, psql and redis-cli as far as the module needs them; the servers' state is a file.
SERVERS = """#!{python}
import json, re, sys
from pathlib import Path

home = Path({home!r})
state = json.loads((home / "state.json").read_text())
given = "" if sys.argv[1] == "ps" else sys.stdin.read()
with (home / "asked").open("a") as asked:
    asked.write(json.dumps({{"argv": sys.argv[1:], "given": given}}) + "\\n")

if sys.argv[1] == "ps":
    service = next(word for word in sys.argv if "service=" in word).rpartition("=")[2]
    print("\\n".join(state["running"].get(service, [])))
    sys.exit(0)

roles, hashes = state["roles"], state["hashes"]
program = sys.argv[4]
if program in state["broken"]:
    print(given)
    print(given, file=sys.stderr)
    sys.exit(3)
if program == "psql" and "json_build_object" in given:
    names = re.search(r"ARRAY\\[('[^]]*')\\]\\)", given)[1].replace("'", "").split(", ")
    shown = {{name: roles[name] for name in names if name in roles}}
    print(json.dumps({{"follows": state["follows"], "roles": shown}}))
elif program == "psql":
    for line in given.splitlines():
        if state["deaf"]:
            continue
        if found := re.fullmatch(r"CREATE ROLE (\\w+) LOGIN;", line):
            roles[found[1]] = {{"login": True, "verifier": None, "member_of": []}}
        elif found := re.fullmatch(r"ALTER ROLE (\\w+) LOGIN PASSWORD '([^']*)';", line):
            roles[found[1]] |= {{"login": True, "verifier": found[2]}}
        elif found := re.fullmatch(r"ALTER ROLE (\\w+) NOLOGIN PASSWORD NULL;", line):
            roles[found[1]] |= {{"login": False, "verifier": None}}
        elif found := re.fullmatch(r"GRANT (\\w+) TO (\\w+);", line):
            roles[found[2]]["member_of"].append(found[1])
        elif found := re.search(r"pg_terminate_backend.*usename = '(\\w+)'", line):
            state["ended"].append(found[1])
        elif line not in ("BEGIN;", "COMMIT;"):
            sys.exit(f"not understood: {{line}}")
else:
    import hashlib
    known = False
    for line in given.splitlines():
        words = line.split()
        if words[0] == "AUTH":
            known = hashlib.sha256(json.loads(line.split(None, 2)[2]).encode()).hexdigest() in hashes
            print("OK" if known else "WRONGPASS invalid username-password pair or user is disabled.")
        elif not known:
            print("NOAUTH Authentication required.")
        elif words[:2] == ["ACL", "GETUSER"]:
            print("\\n".join(["flags", "on", "passwords", *hashes, "commands", "+@all", "keys", "~*"]))
        elif words[:2] == ["ACL", "SETUSER"]:
            if not state["deaf"]:
                if "resetpass" in words:
                    hashes.clear()
                hashes += [word[1:] for word in words if word[0] == "#" and word[1:] not in hashes]
            print("OK")
        elif words == ["ACL", "SAVE"]:
            print("OK" if state["keeps"] else "ERR This Redis instance is not configured to use an ACL file.")
(home / "state.json").write_text(json.dumps(state))
"""


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


@dataclass
class Servers:
    """Two running servers, which have the old passwords."""

    home: Path
    module: ModuleType

    def __post_init__(self) -> None:
        executable = self.home / "docker"
        executable.write_text(SERVERS.format(python=sys.executable, home=str(self.home)))
        executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
        self.set(
            running={"postgres": ["c1"], "redis": ["c2"]},
            roles={
                "agents": {"login": True, "verifier": self.module.verifier("legacy"), "member_of": []},
                "agents_a": {"login": True, "verifier": self.module.verifier(OLD), "member_of": ["agents"]},
                "agents_owner": {"login": True, "verifier": self.module.verifier(OWNER), "member_of": []},
            },
            hashes=[digest(OLD)],
            follows=False,
            deaf=False,
            broken=[],
            ended=[],
            keeps=True,
        )

    @property
    def state(self) -> dict[str, Any]:
        file = self.home / "state.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def set(self, **changes: Any) -> None:
        (self.home / "state.json").write_text(json.dumps({**self.state, **changes}))

    def asked(self) -> list[dict[str, Any]]:
        file = self.home / "asked"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def postgres(
        self, login: str, password: str, retired: tuple[str, ...] = (), check: bool = False
    ) -> list[str]:
        wanted = {
            "service": "postgres",
            "superuser": "postgres",
            "roles": [
                {"name": login, "password": password, "member_of": "agents"},
                {"name": "agents_owner", "password": OWNER},
            ],
            "retired": list(retired),
        }
        did: list[str] = self.module.postgres(PROJECT, wanted, check=check)
        return did

    def redis(self, password: str, *known: str, alone: bool = False, check: bool = False) -> list[str]:
        wanted = {"service": "redis", "password": password, "known": list(known), "alone": alone}
        did: list[str] = self.module.redis(PROJECT, wanted, check=check)
        return did

    def logs_in(self, role: str, password: str) -> bool:
        present = self.state["roles"].get(role)
        return bool(present and present["login"] and self.module.fits(present["verifier"], password))


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Servers(tmp_path, load_plugin("modules", "database_passwords"))


def test_a_second_role_logs_in_beside_the_first_one(servers: Servers) -> None:
    assert servers.postgres("agents_b", NEW) == [
        "role agents_b logs in with the password that it must have",
        "role agents_b may do what agents may",
    ]
    assert servers.logs_in("agents_b", NEW)
    assert servers.logs_in("agents_a", OLD)
    assert servers.state["roles"]["agents_b"]["member_of"] == ["agents"]
    assert servers.state["ended"] == []
    assert servers.postgres("agents_b", NEW) == [], "again, it has nothing to do"


def test_the_old_role_logs_in_no_more_and_its_sessions_end(servers: Servers) -> None:
    servers.postgres("agents_b", NEW)
    did = servers.postgres("agents_b", NEW, ("agents_a", "agents"))
    assert did == ["role agents_a logs in no more", "role agents logs in no more"]
    assert not servers.logs_in("agents_a", OLD)
    assert not servers.logs_in("agents", "legacy")
    assert servers.logs_in("agents_b", NEW)
    assert servers.state["ended"] == ["agents_a", "agents"]
    assert servers.postgres("agents_b", NEW, ("agents_a", "agents")) == []


def test_a_role_whose_turn_comes_again_is_given_the_new_password(servers: Servers) -> None:
    servers.postgres("agents_b", NEW, ("agents_a", "agents"))
    servers.postgres("agents_a", "third")
    assert servers.logs_in("agents_a", "third")
    assert not servers.logs_in("agents_a", OLD)


def test_a_role_that_has_one_password_is_given_another(servers: Servers) -> None:
    assert servers.postgres("agents_a", NEW) == ["role agents_a logs in with the password that it must have"]
    assert servers.logs_in("agents_a", NEW)
    assert not servers.logs_in("agents_a", OLD)


def test_redis_accepts_two_and_then_one(servers: Servers) -> None:
    assert servers.redis(NEW, OLD, NEW) == ["Redis accepts also the one that it must have"]
    assert servers.state["hashes"] == [digest(OLD), digest(NEW)]
    assert servers.redis(NEW, OLD) == []
    assert servers.redis(NEW, alone=True) == [
        "Redis accepts no other password than the one that it must have"
    ]
    assert servers.state["hashes"] == [digest(NEW)]
    assert servers.redis(NEW, alone=True) == []


def test_no_password_is_in_an_argument_and_none_in_clear_with_postgres(servers: Servers) -> None:
    servers.postgres("agents_b", NEW, ("agents_a",))
    servers.redis(NEW, OLD, alone=True)
    arguments = json.dumps([asked["argv"] for asked in servers.asked()])
    assert "c4n4ry" not in arguments
    assert digest(NEW) not in arguments
    for asked in servers.asked():
        told = asked["given"]
        if "psql" in asked["argv"]:
            assert "c4n4ry" not in told
        for command in told.splitlines():
            assert "c4n4ry" not in command or command.startswith("AUTH ")


def test_a_dry_run_says_the_same_and_changes_nothing(servers: Servers) -> None:
    before = servers.state
    assert len(servers.postgres("agents_b", NEW, ("agents_a",), check=True)) == 3
    assert len(servers.redis(NEW, OLD, alone=True, check=True)) == 1
    assert servers.state == before


def test_what_does_not_run_or_follows_another_is_left_alone(servers: Servers) -> None:
    servers.set(follows=True)
    before = servers.state
    assert servers.postgres("agents_b", NEW, ("agents_a",)) == []
    servers.set(running={})
    assert servers.postgres("agents_b", NEW) == []
    assert servers.redis(NEW, OLD) == []
    assert servers.state == {**before, "running": {}}


def refused(servers: Servers, call: Any) -> str:
    with pytest.raises(servers.module.PasswordError) as caught:
        call()
    assert "c4n4ry" not in f"{caught.value} {caught.value!r} {caught.value.__context__!r}"
    return str(caught.value)


def test_a_server_that_did_not_do_it_is_not_believed(servers: Servers) -> None:
    servers.set(deaf=True)
    assert "but still: role agents_b logs in" in refused(servers, lambda: servers.postgres("agents_b", NEW))
    assert "does not have what it must" in refused(servers, lambda: servers.redis(NEW, OLD, alone=True))
    servers.set(deaf=False, hashes=[digest(OLD), digest(NEW), digest("third")])
    servers.redis(NEW, alone=True)
    assert servers.state["hashes"] == [digest(NEW)]


def test_what_a_server_says_is_not_repeated(servers: Servers) -> None:
    servers.set(broken=["psql", "redis-cli"])
    assert "ended with 3" in refused(servers, lambda: servers.postgres("agents_b", NEW))
    assert "ended with 3" in refused(servers, lambda: servers.redis(NEW, OLD))
    servers.set(broken=[], hashes=[digest("unknown")])
    assert "none of the passwords" in refused(servers, lambda: servers.redis(NEW, OLD))
    assert "no name of a role" in refused(servers, lambda: servers.postgres("agents-b'; DROP", NEW))
    servers.set(running={"postgres": ["c1", "c2"]})
    assert "2 containers of postgres run" in refused(servers, lambda: servers.postgres("agents_b", NEW))


def test_a_redis_of_an_older_image_takes_it_until_it_is_made_anew(servers: Servers) -> None:
    servers.set(keeps=False)
    assert servers.redis(NEW, OLD)
    assert digest(NEW) in servers.state["hashes"]


def test_a_verifier_fits_its_password_only(servers: Servers) -> None:
    module = servers.module
    assert module.fits(module.verifier(NEW), NEW)
    assert not module.fits(module.verifier(NEW), OLD)
    assert module.verifier(NEW) != module.verifier(NEW)
    for other in (None, "", "md5abc", "SCRAM-SHA-256$"):
        assert not module.fits(other, NEW)
    # RFC 7677, 3: what its example's salt and iterations make of its password "pencil".
    kept = (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert module.fits(kept, "pencil")
    assert not module.fits(kept, "pencils")
