"""Who gets in, how, and with which limits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.molecule.machine import Done, Machine
from tests.molecule.outside import Outside
from tests.waiting import eventually


def ssh(machine: Machine, key: Path, user: str, *options: str, command: str = "true") -> Done:
    arguments = ["ssh", "-v", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
    arguments += [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
    ]
    arguments += [*options, f"{user}@{machine.address()}", command]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)
    return Done(done.returncode, done.stdout + done.stderr)


def test_the_operator_gets_in_by_key_and_sees_the_banner(machine: Machine, operator_key: Path) -> None:
    done = ssh(machine, operator_key, "ops", command="umask; ulimit -Hc")
    assert done.code == 0, done.output
    assert "Authorised use only" in done.output
    assert "0027\n0\n" in done.output


def test_root_does_not_get_in_with_the_same_key(machine: Machine, operator_key: Path) -> None:
    machine.shell("install -d -m 700 /root/.ssh && cp /home/ops/.ssh/authorized_keys /root/.ssh/")
    done = ssh(machine, operator_key, "root")
    assert done.code != 0
    assert "Permission denied (publickey)" in done.output


def test_another_user_does_not_get_in_with_the_same_key(machine: Machine, operator_key: Path) -> None:
    machine.shell(
        "id other 2>/dev/null || useradd --create-home other;"
        "install -d -m 700 -o other /home/other/.ssh;"
        "install -m 600 -o other /home/ops/.ssh/authorized_keys /home/other/.ssh/authorized_keys"
    )
    assert "Permission denied (publickey)" in ssh(machine, operator_key, "other").output


def test_only_keys_are_offered(machine: Machine, operator_key: Path) -> None:
    done = ssh(machine, operator_key, "ops", "-o", "PreferredAuthentications=password,keyboard-interactive")
    assert done.code != 0
    assert "Authentications that can continue: publickey\n" in done.output


@pytest.mark.parametrize(
    "option",
    [
        "KexAlgorithms=ecdh-sha2-nistp256",
        "Ciphers=aes128-ctr",
        "MACs=hmac-sha1",
        "HostKeyAlgorithms=rsa-sha2-512",
    ],
)
def test_old_algorithms_are_refused(machine: Machine, operator_key: Path, option: str) -> None:
    # A MAC is chosen only for ciphers that need one.
    cipher = ("-o", "Ciphers=aes256-ctr") if option.startswith("MACs") else ()
    done = ssh(machine, operator_key, "ops", "-o", option, *cipher)
    assert done.code != 0
    assert "no matching" in done.output


def test_an_agent_is_not_forwarded(machine: Machine) -> None:
    settings = machine.shell("sshd -T")
    for line in ("allowagentforwarding no", "x11forwarding no", "permittunnel no", "maxauthtries 4"):
        assert line in settings.splitlines()


def test_weak_passwords_are_refused(machine: Machine) -> None:
    machine.shell("id other 2>/dev/null || useradd --create-home other")
    weak = machine.run("sh", "-c", "printf 'abc12\\nabc12\\n' | passwd other")
    assert weak.code != 0
    assert "BAD PASSWORD" in weak.output
    machine.shell("printf 'Long-enough-4711-words\\nLong-enough-4711-words\\n' | passwd other")


def test_new_accounts_age_and_are_private(machine: Machine) -> None:
    machine.run("userdel", "--remove", "fresh")
    machine.shell("useradd --create-home fresh")
    assert machine.shell("stat --format %a /home/fresh") == "700"
    assert machine.shell("getent shadow fresh").split(":")[3:6] == ["1", "365", "7"]


def test_su_is_for_administrators(machine: Machine) -> None:
    machine.shell(
        "id other 2>/dev/null || useradd --create-home other;"
        "id target 2>/dev/null || useradd --create-home target;"
        "echo target:Long-enough-4711-words | chpasswd"
    )
    attempt = "printf 'Long-enough-4711-words\\n' | runuser -u other -- su target -c id"
    assert machine.run("sh", "-c", attempt).code != 0
    machine.shell("usermod --append --groups sudo other")
    try:
        assert "target" in machine.shell(attempt)
    finally:
        machine.shell("gpasswd --delete other sudo")


def test_guessing_gets_an_address_banned(machine: Machine, outside: Outside) -> None:
    machine.shell("fail2ban-client unban --all")
    assert outside.reach(machine, 22) == "open"
    # A ban drops what is already connected, too.
    guess = (
        *("timeout", "5", "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
        f"guess@{machine.address()}",
    )

    def banned() -> bool:
        if outside.reach(machine, 22) != "open":
            return True
        outside.run(*guess)
        return False

    eventually(banned, "the address is banned")
    assert "Banned IP list" in machine.shell("fail2ban-client status sshd")
    machine.shell("fail2ban-client unban --all")
    assert outside.reach(machine, 22) == "open"
