"""Preparation of a local stack: complete, idempotent, repaired, and safe to kill."""

from __future__ import annotations

import base64
import json
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from infra import local, paths
from infra.secrets import generators
from infra.secrets.catalogue import CATALOGUE, TLS_PARTIES
from infra.secretstore import IdentityError, SecretConfigError, open_store, pki, sops
from infra.secretstore import prepare as prepare_module
from infra.secretstore.mounts import MOUNTS
from infra.secretstore.prepare import prepare

STACK = "local"


def contents(stack: str = STACK) -> dict[str, tuple[bytes, int]]:
    """Everything that was made: bytes and mode by path; the stamp of the last run is not part of it."""
    home = paths.stack_home(stack)
    return {
        str(path.relative_to(home)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in sorted(home.rglob("*"))
        if path.is_file()
    }


def test_makes_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(STACK)
    before = contents()
    monkeypatch.setenv("PATH", "/nonexistent")

    second = prepare(STACK)

    assert first.identity
    assert set(first.secrets) == set(CATALOGUE)
    assert len(first.files) == len(MOUNTS)
    assert not second.changed
    assert contents() == before


def test_files_and_directories_are_private(home: Path) -> None:
    prepare(STACK)

    for path in (home / ".local/state/icupa").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        else:
            assert mode in (0o600, 0o644), path
    store = open_store({}, STACK)
    secret = set(store.get_many(CATALOGUE).values())
    for mount in MOUNTS:
        text = mount.path(STACK).read_text()
        if any(value in text for value in secret):
            assert mount.mode == 0o600, mount


def test_certificates_are_the_worlds_and_name_host_and_address() -> None:
    prepare(STACK)
    authority = (paths.mounted_files(STACK, "world") / "ca.pem").read_bytes()
    trusted = Store([x509.load_pem_x509_certificate(authority)])

    for party in TLS_PARTIES:
        directory = paths.mounted_files(STACK, party.name)
        leaf = x509.load_pem_x509_certificate((directory / "tls.crt").read_bytes())
        for subject in (x509.DNSName(party.host), x509.IPAddress(party.address)):
            PolicyBuilder().store(trusted).build_server_verifier(subject).verify(leaf, [])
        other = x509.DNSName("localhost")
        with pytest.raises(x509.verification.VerificationError):
            PolicyBuilder().store(trusted).build_server_verifier(other).verify(leaf, [])
        key = (directory / "tls.key").read_text()
        assert pki.fits(
            leaf.public_bytes(Encoding.PEM).decode(), key, authority.decode(), party.host, party.address
        )


def test_a_certificate_fits_only_its_key_authority_host_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ca_key, key, address = generators.ec_key(), generators.ec_key(), IPv4Address("10.0.0.1")
    ca = pki.authority(ca_key, "CA")
    made = pki.certificate(key, "a.example", address, ca, ca_key)

    assert pki.fits(made, key, ca, "a.example", address)
    assert not pki.fits(made, generators.ec_key(), ca, "a.example", address)
    assert not pki.fits(made, key, pki.authority(generators.ec_key(), "CA"), "a.example", address)
    assert not pki.fits(made, key, ca, "b.example", address)
    assert not pki.fits(made, key, ca, "a.example", IPv4Address("10.0.0.2"))
    assert not pki.fits("", key, ca)
    monkeypatch.setattr(pki, "RENEW_BEFORE", pki.CERTIFICATE_LIFETIME)
    assert not pki.fits(made, key, ca, "a.example", address)


def test_files_hold_what_their_readers_want() -> None:
    prepare(STACK)
    store = open_store({}, STACK)
    password = store.get("registry-password").encode()

    user, hashed = (paths.mounted_files(STACK, "registry") / "htpasswd").read_text().strip().split(":")
    assert bcrypt.checkpw(password, hashed.encode())
    docker = json.loads((paths.docker_config(STACK) / "config.json").read_text())
    login = docker["auths"][local.REGISTRY.host]["auth"]
    assert base64.b64decode(login) == user.encode() + b":" + password
    tsig = (paths.mounted_files(STACK, "nameserver") / "tsig.conf").read_text()
    assert f"  - id: acme\n    algorithm: hmac-sha256\n    secret: {store.get('tsig-acme')}\n" in tsig
    assert (paths.mounted_files(STACK, "traces") / "token").read_text() == store.get("otlp-token")
    seed = json.loads((paths.mounted_files(STACK, "vendors") / "seed.json").read_text())
    assert seed["openai"]["api_keys"] == [store.get("openai-api-key")]
    for machine in local.MACHINES:
        directory = paths.mounted_files(STACK, machine.name)
        private = (directory / "ssh_host_ed25519_key").read_text()
        assert (directory / "ssh_host_ed25519_key.pub").read_text() == generators.ssh_public_key(
            private
        ) + "\n"
        operator = (paths.mounted_files(STACK, "operator") / "id_ed25519").read_text()
        assert (directory / "authorized_keys").read_text() == generators.ssh_public_key(operator) + "\n"


def test_requests_to_the_registry_cost_little_also_where_they_once_did_not() -> None:
    prepare(STACK)
    file = paths.mounted_files(STACK, "registry") / "htpasswd"
    user, _, hashed = file.read_text().strip().partition(":")
    assert hashed.startswith("$2b$04$")
    password = open_store({}, STACK).get("registry-password").encode()
    file.write_text(f"{user}:{bcrypt.hashpw(password, bcrypt.gensalt(5)).decode()}\n")
    prepare(STACK)
    assert file.read_text().startswith(f"{user}:$2b$04$")


def test_repairs_what_was_removed_or_changed() -> None:
    prepare(STACK)
    before = contents()
    removed = paths.mounted_files(STACK, "registry") / "htpasswd"
    damaged = paths.mounted_files(STACK, "traces") / "token"
    opened = paths.mounted_files(STACK, "operator") / "id_ed25519"
    folder = paths.mounted_files(STACK, "login")
    certificate = paths.stack_home(STACK) / "record/public/tls-login.pem"
    removed.unlink()
    damaged.write_text("wrong")
    opened.chmod(0o644)
    folder.chmod(0o755)
    certificate.unlink()

    done = prepare(STACK)

    names = {path.name for path in done.files}
    assert {"htpasswd", "token", "id_ed25519"} <= names
    assert done.certificates == ("tls-login.pem",)
    assert not done.secrets
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    changed = {name for name, value in contents().items() if value != before[name]}
    login = {"files/login/tls.crt", "record/public/tls-login.pem"}
    assert changed == {"files/registry/htpasswd", "prepared.json", *login}
    assert not prepare(STACK).changed


def test_follows_a_secret_that_was_rotated() -> None:
    prepare(STACK)
    open_store({}, STACK).put("registry-password", "rotated", by="alice")

    done = prepare(STACK)

    assert {path.name for path in done.files} == {"htpasswd", "config.json"}
    hashed = (paths.mounted_files(STACK, "registry") / "htpasswd").read_text().strip().split(":")[1]
    assert bcrypt.checkpw(b"rotated", hashed.encode())


def test_renews_certificates_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(STACK)
    later = datetime.now(UTC) + pki.CERTIFICATE_LIFETIME - timedelta(days=1)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return later

    monkeypatch.setattr(pki, "datetime", Later)
    monkeypatch.setattr(prepare_module, "datetime", Later)

    done = prepare(STACK)

    assert len(done.certificates) == len(TLS_PARTIES)


def test_will_not_hide_that_the_identity_is_gone() -> None:
    prepare(STACK)
    before = contents()
    sops.local_identity(STACK).unlink()

    with pytest.raises(IdentityError, match=r"age\.key, which opens them, is gone: put it back"):
        prepare(STACK)

    after = contents()
    assert after == {name: value for name, value in before.items() if name != "age.key"}


def test_a_local_stack_uses_its_own_identity(identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare(STACK).identity
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", "/nonexistent")

    assert open_store({}, STACK).get("redis-password")


def test_other_stacks_are_refused(home: Path) -> None:
    with pytest.raises(SecretConfigError, match="set NAME --stack production"):
        prepare("production")

    assert not any(home.iterdir())


@pytest.mark.parametrize(
    "moment",
    [
        "age.key",
        "record/secrets.sops.yaml",
        "record/public/world-ca.pem",
        "files/login",
        "docker/config.json",
    ],
)
def test_killed_at_any_moment_the_next_run_completes_it(home: Path, moment: str) -> None:
    command = [sys.executable, "-m", "infra.secretstore", "prepare", "--stack", STACK]
    run = subprocess.Popen(command, cwd=paths.REPOSITORY, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (paths.stack_home(STACK) / moment).exists():
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    kept = open_store({}, STACK).entries()

    prepare(STACK)

    assert not prepare(STACK).changed
    store = open_store({}, STACK)
    assert set(store.get_many(CATALOGUE)) == set(CATALOGUE)
    assert {name: store.entries()[name] for name in kept} == kept
    assert (paths.mounted_files(STACK, "traces") / "token").read_text() == store.get("otlp-token")
    assert not list(home.rglob(".staged"))
