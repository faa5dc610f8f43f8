#!/usr/bin/python
"""Gives roles of a running PostgreSQL, and a running Redis, their passwords; see DOCUMENTATION."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.fence import FencedError, fenced

DOCUMENTATION = """
module: database_passwords
short_description: Passwords of PostgreSQL and Redis while they serve
description:
  - Makes the servers of a Compose project accept passwords, and where asked no others, without a restart.
    Servers that do not run are left alone, since they take theirs from files when they start; so is a
    PostgreSQL that follows another one.
  - Servers are told verifiers and hashes, through standard input. What holds is read back from them.
options:
  project: {description: Name of the Compose project., type: str, required: true}
  postgres:
    description: Service, superuser, C(roles) with their C(password) and what each is C(member_of), and
      C(retired) roles, which may log in no more and whose sessions end.
    type: dict
  redis:
    description: Service, C(password), C(known) others of which one may be valid, and whether it is C(alone).
    type: dict
  fence:
    description: Token of the operation, which must not be lower than one that this host has seen; 0 is none.
    type: int
attributes:
  check_mode: {support: full}
author: ICUPA platform
"""

EXAMPLES = """
- name: Let Redis accept a second password
  database_passwords:
    project: agents-service
    redis: {service: redis, password: "{{ new }}", known: ["{{ old }}"], alone: false}
"""

RETURN = """
did: {description: What was changed, or would be, in words., type: list, returned: success}
"""

TIMEOUT = 30
ITERATIONS = 4096
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
VERIFIER = re.compile(r"SCRAM-SHA-256\$([0-9]+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
HASH = re.compile(r"[0-9a-f]{64}")
NOT_KEPT = "not configured to use an ACL file"

ROLES = """
SELECT json_build_object(
  'follows', pg_is_in_recovery(),
  'roles', coalesce((
    SELECT json_object_agg(role.rolname, json_build_object(
      'login', role.rolcanlogin, 'verifier', role.rolpassword, 'member_of', ARRAY(
        SELECT found.rolname FROM pg_auth_members AS member
        JOIN pg_roles AS found ON found.oid = member.roleid WHERE member.member = role.oid)))
    FROM pg_authid AS role WHERE role.rolname = ANY (ARRAY[%s])), '{}'))
"""


class PasswordError(Exception):
    """A server did not do what it was told; the message holds no password."""


def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")


def verifier(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5803)."""
    salt = os.urandom(16)
    stored, server = (base64.b64encode(key).decode() for key in _keys(password, salt, ITERATIONS))
    return f"SCRAM-SHA-256${ITERATIONS}:{base64.b64encode(salt).decode()}${stored}:{server}"


def fits(kept: str | None, password: str) -> bool:
    """Whether what PostgreSQL keeps is of a password."""
    match = VERIFIER.fullmatch(kept or "")
    if match is None:
        return False
    stored, _ = _keys(password, base64.b64decode(match[2]), int(match[1]))
    return hmac.compare_digest(base64.b64encode(stored).decode(), match[3])


def run(command: list[str], given: str = "") -> str:
    """Standard output of a command; PasswordError without what it said, which may quote what it was given."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise PasswordError(f"{command[0]} {command[1]} did not end within {TIMEOUT} s") from None
    if done.returncode != 0:
        raise PasswordError(f"{' '.join(command[:2])} {command[-1]} ended with {done.returncode}")
    return done.stdout


def container(project: str, service: str) -> str | None:
    """Id of the running container of a service; None also where there is no engine yet."""
    if shutil.which("docker") is None:
        return None
    label = "label=com.docker.compose"
    filters = [
        f"--filter={label}.{key}={value}"
        for key, value in (("project", project), ("service", service), ("oneoff", "False"))
    ]
    ids = run(["docker", "ps", "--quiet", "--no-trunc", *filters, "--filter=status=running"]).split()
    if len(ids) > 1:
        raise PasswordError(f"{project}: {len(ids)} containers of {service} run, there must be one")
    return ids[0] if ids else None


def checked(name: str) -> str:
    """A name that needs no quotes."""
    if not NAME.fullmatch(name):
        raise PasswordError(f"{name!r} is no name of a role: small letters, digits, underscores")
    return name


@dataclass(frozen=True)
class Postgres:
    """A running server, asked as its superuser over its own socket."""

    container: str
    superuser: str

    def ask(self, sql: str) -> str:
        """Answer to a script, which ends at its first error."""
        words = ["docker", "exec", "--interactive", self.container, "psql", "--no-psqlrc", "--quiet"]
        words += ["--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]
        return run([*words, f"--username={self.superuser}", "--dbname=postgres"], sql)

    def roles(self, names: list[str]) -> dict[str, Any]:
        """Whether it follows another server, and what roles there are of those named."""
        found: dict[str, Any] = json.loads(self.ask(ROLES % ", ".join(f"'{name}'" for name in names)))
        return found


def postgres(project: str, wanted: dict[str, Any], *, check: bool) -> list[str]:
    """Bring roles to what is wanted; what was done."""
    found = container(project, wanted["service"])
    if found is None:
        return []
    server = Postgres(found, checked(wanted["superuser"]))
    roles = {checked(role["name"]): role for role in wanted["roles"]}
    retired = [checked(name) for name in wanted["retired"]]
    known = server.roles([*roles, *retired])
    if known["follows"]:
        return []
    script, did = _script(known["roles"], roles, retired)
    if script and not check:
        server.ask("\n".join(["BEGIN;", *script, "COMMIT;", *_ends(retired)]))
        known = server.roles([*roles, *retired])["roles"]
        wrong = _script(known, roles, retired)[1]
        if wrong:
            raise PasswordError(f"the server took it, but still: {'; '.join(wrong)}")
    return did


def _script(known: dict[str, Any], roles: dict[str, Any], retired: list[str]) -> tuple[list[str], list[str]]:
    """Statements that are due, and what they do in words."""
    script, did = [], []
    for name, role in roles.items():
        present = known.get(name)
        if present is None:
            script.append(f"CREATE ROLE {name} LOGIN;")
        if present is None or not present["login"] or not fits(present["verifier"], role["password"]):
            script.append(f"ALTER ROLE {name} LOGIN PASSWORD '{verifier(role['password'])}';")
            did.append(f"role {name} logs in with the password that it must have")
        group = role.get("member_of")
        if group and (present is None or group not in present["member_of"]):
            script.append(f"GRANT {checked(group)} TO {name};")
            did.append(f"role {name} may do what {group} may")
    for name in retired:
        present = known.get(name)
        if present and (present["login"] or present["verifier"]):
            script.append(f"ALTER ROLE {name} NOLOGIN PASSWORD NULL;")
            did.append(f"role {name} logs in no more")
    return script, did


def _ends(retired: list[str]) -> list[str]:
    """What ends sessions that were begun before."""
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = "
    return [f"{ends}'{name}';" for name in retired]


def redis(project: str, wanted: dict[str, Any], *, check: bool) -> list[str]:
    """Bring the default user's passwords to what is wanted; what was done."""
    found = container(project, wanted["service"])
    if found is None:
        return []
    mine = hashlib.sha256(wanted["password"].encode()).hexdigest()
    valid = [wanted["password"], *wanted["known"]]
    entry, known = _enter(found, valid)
    if mine in known and (not wanted["alone"] or known == {mine}):
        return []
    what = "no other password than" if wanted["alone"] else "also"
    did = [f"Redis accepts {what} the one that it must have"]
    if check:
        return did
    reset = "resetpass " if wanted["alone"] else ""
    said = _tell(found, [entry, f"ACL SETUSER default on {reset}#{mine}", "ACL SAVE"])
    # One that was made from an older image keeps none: it is made anew from the present one.
    if said[:2] != ["OK", "OK"] or not (said[2:] == ["OK"] or NOT_KEPT in "".join(said[2:])):
        raise PasswordError("Redis did not take the password")
    _, known = _enter(found, valid)
    if mine not in known or (wanted["alone"] and known != {mine}):
        raise PasswordError("Redis took the password, but does not have what it must have")
    return did


def _enter(server: str, passwords: list[str]) -> tuple[str, set[str]]:
    """The command that logs in with the first password that is valid, and hashes of all that are."""
    for password in dict.fromkeys(passwords):
        entry = f"AUTH default {json.dumps(password, ensure_ascii=False)}"
        said = _tell(server, [entry, "ACL GETUSER default"])
        if said[:1] == ["OK"]:
            return entry, {line for line in said[1:] if HASH.fullmatch(line)}
    raise PasswordError("Redis accepts none of the passwords that the store knows")


def _tell(server: str, commands: list[str]) -> list[str]:
    """Lines of the answers to commands."""
    text = "".join(f"{command}\n" for command in commands)
    return run(["docker", "exec", "--interactive", server, "redis-cli"], text).splitlines()


def main() -> None:
    """Do it."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "postgres": {"type": "dict", "no_log": True},
            "redis": {"type": "dict", "no_log": True},
            "fence": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    given, check = module.params, module.check_mode
    did: list[str] = []
    try:
        with nullcontext() if check else fenced(given["fence"]):
            if given["postgres"]:
                did += postgres(given["project"], given["postgres"], check=check)
            if given["redis"]:
                did += redis(given["project"], given["redis"], check=check)
    except (PasswordError, FencedError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(did), did=did)


if __name__ == "__main__":
    main()
